"""The no-skip rule itself: a skip that slips through would make every later green worth less."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLAIN = ("-p", "no:cacheprovider")
CONFTEST = Path(__file__).with_name("conftest.py").read_text()
SKIPPING = """
import pytest

@pytest.mark.skip(reason="marked")
def test_marked(): ...

def test_called():
    pytest.skip("called")

@pytest.fixture
def absent():
    pytest.skip("in a fixture")

def test_fixture(absent): ...

@pytest.mark.xfail(reason="known")
def test_expected():
    raise ValueError

def test_passes(): ...
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makepyprojecttoml(
        "[tool.pytest.ini_options]\nmarkers=['holds_loop(reason): a test of it']"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    # The rule needs no plugin, and most of such a run would be their start.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def test_every_kind_of_skip_fails_where_none_is_allowed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MK8S_TEST_NO_SKIP", "1")
    whole = "import pytest\npytest.importorskip('no_such_module_anywhere')"
    project.makepyfile(test_skipping=SKIPPING, test_skips_itself=whole)
    result = project.runpytest_subprocess(
        "-p", "no:cacheprovider", "--continue-on-collection-errors"
    )
    outcomes = result.parseoutcomes()
    # Skips before the call itself (by a mark, a fixture, a whole module) count as errors.
    assert outcomes["errors"] == 3
    assert outcomes["failed"] == 2
    assert outcomes["passed"] == 1
    assert "skipped" not in outcomes
    assert "xfailed" not in outcomes


def test_skips_are_allowed_elsewhere(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MK8S_TEST_NO_SKIP", raising=False)
    project.makepyfile(SKIPPING)
    outcomes = project.runpytest_subprocess(*PLAIN).parseoutcomes()
    assert outcomes["skipped"] == 3
    assert outcomes["xfailed"] == 1
    assert outcomes["passed"] == 1


HOLDING = """
import asyncio
import functools
import time

import pytest

from tests.support import loop_watch

SOURCE = '''
import time

def burn(seconds):
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
'''
PRODUCT = {}
exec(compile(SOURCE, "mk8s_proxy/invented.py", "exec"), PRODUCT)

def hold():
    loop = asyncio.new_event_loop()
    loop.call_soon(functools.partial(PRODUCT["burn"], 30 * loop_watch.LONGEST))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()

def test_held():
    hold()

@pytest.mark.holds_loop("on purpose")
def test_marked():
    hold()

def test_passes(): ...
"""


def test_a_loop_that_is_held_fails_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(HOLDING)
    result = project.runpytest_subprocess(*PLAIN)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*the event loop was held by burn: *ms*"])
