"""What holds for every test: no silent skip where none is allowed, and the Hypothesis profiles.

MK8S_TEST_NO_SKIP=1 (set by .ci/run) turns every skip and expected failure into a failure: a test
that did not run proves nothing, and a machine that lacks what a test needs must say so.
Nothing of ours may hold an event loop for longer than 20 ms: see tests/support/loop_watch.py. The
fixtures of the kube tests live in tests/support and are opened by tests/kube/conftest.py.
"""

import os
from collections.abc import Generator

import hypothesis
import pytest

from tests.support.loop_watch import MARK, LoopWatch

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=5000)
# The same examples each time: a change is judged by itself, not by the luck of the draw. New
# examples are drawn by every other run, and many by the deep one.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

NO_SKIP = os.environ.get("MK8S_TEST_NO_SKIP") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which Kubernetes the kube tests run on."""
    parser.addoption("--oldest", action="store_true", help="on the oldest Kubernetes, not today's")


@pytest.hookimpl(trylast=True)  # hypothesis marks its tests in this hook, too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage in property tests: what they draw takes a branch today and none tomorrow.

    A branch that must be taken has a test of its own; and they run twice as fast.
    """
    for item in items:
        if item.get_closest_marker("hypothesis") is not None:
            item.add_marker("no_cover")


_LOOPS = pytest.StashKey[LoopWatch]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Watch all event loops, of all tests."""
    watch = session.config.stash[_LOOPS] = LoopWatch()
    watch.start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Watch no longer."""
    session.config.stash[_LOOPS].stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test in which something of ours held a loop, unless a mark says why it may."""
    done = yield
    held = item.config.stash[_LOOPS].take()
    if held and item.get_closest_marker(MARK) is None:
        pytest.fail("the event loop was held by " + "; ".join(held), pytrace=False)
    return done


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where nothing may be skipped, a skipped report becomes a failed one that keeps its reason."""
    if NO_SKIP and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where MK8S_TEST_NO_SKIP=1: {reason}"
        # pytest would still show an expected failure as such if this mark stayed.
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge each phase of each test."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge whole modules too: `importorskip` and module-level skips end here."""
    report = yield
    _refuse_skip(report)
    return report
