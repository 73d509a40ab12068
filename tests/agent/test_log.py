"""The log: one line per event, nothing secret, nothing forged."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import log

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
logger = logging.getLogger("mk8s_proxy.test")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    log.configure("info", "json", stream)
    yield stream
    root.handlers, root.level = handlers, level


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object(lines: io.StringIO) -> None:
    logger.info("tunnel.opened", extra={"cluster": "prod", "streams": 3, "labels": {"a": ("b",)}})

    (entry,) = entries(lines)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "event": "tunnel.opened",
        "logger": "mk8s_proxy.test",
        "cluster": "prod",
        "streams": 3,
        "labels": {"a": ["b"]},
    }


def test_fields_may_be_nested_for_names_that_logging_keeps(lines: io.StringIO) -> None:
    logger.info("api.request", extra={"fields": {"name": "web", "code": 200}})
    logger.info("odd", extra={"fields": 5})

    first, second = entries(lines)
    assert (first["name"], first["code"]) == ("web", 200)
    assert second["fields"] == 5


def test_lines_below_the_level_are_not_written(lines: io.StringIO) -> None:
    logger.debug("detail")

    assert entries(lines) == []


def test_a_second_configuration_replaces_the_first(lines: io.StringIO) -> None:
    log.configure("warning", "json", lines)
    logger.info("quiet")
    logger.warning("heard once")

    assert [entry["event"] for entry in entries(lines)] == ["heard once"]


@pytest.mark.parametrize(
    "secret",
    [
        f"Authorization: Bearer {JWT}",
        f"token {JWT} refused",
        "mk8s_rt_" + "A" * 43,
        "join with mk8s_jt_" + "b" * 43,
        "postgresql://mk8s:hunter2hunter2@db/mk8s",
        "GET /x?access_token=hunter2hunter2&watch=1",
        "GET /cb?state=1&code=hunter2hunter2",
        "GET /b?X-Amz-Signature=hunter2hunter2&x=1",
        "GET /b?access%2Dtoken=hunter2hunter2",
        "GET /b?sessionid[]=hunter2hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nhunter2hunter2",
    ],
)
def test_credentials_do_not_reach_the_log(lines: io.StringIO, secret: str) -> None:
    logger.info(secret)
    logger.info("with %s", secret)
    logger.info("field", extra={"note": secret, "deep": [{"x": secret}], "raw": secret.encode()})
    try:
        int(secret)
    except ValueError:
        logger.exception("failed")

    text = lines.getvalue()
    assert "redacted" in text
    for leaked in ("hunter2", JWT, "A" * 43, "b" * 43):
        assert leaked not in text
    assert len(entries(lines)) == 4


@pytest.mark.parametrize(
    "name", ["token", "access_token", "Password", "csr", "authorization", "jwt", "x_api_key"]
)
def test_a_field_with_a_secret_name_is_not_written(lines: io.StringIO, name: str) -> None:
    logger.info("login", extra={name: "plain words", "token_epoch": 3, "token_count": "two"})

    (entry,) = entries(lines)
    assert entry[name] == log.REDACTED
    assert (entry["token_epoch"], entry["token_count"]) == (3, "two")


def test_ordinary_words_stay(lines: io.StringIO) -> None:
    logger.info("stream.reset code=%s", "CANCEL", extra={"url": "https://central:8443/k8s/prod"})

    (entry,) = entries(lines)
    assert entry["event"] == "stream.reset code=CANCEL"
    assert entry["url"] == "https://central:8443/k8s/prod"


def test_an_exception_brings_its_traceback_on_the_same_line(lines: io.StringIO) -> None:
    try:
        print(1 / 0)
    except ZeroDivisionError:
        logger.exception("bug")

    (entry,) = entries(lines)
    assert "ZeroDivisionError" in entry["traceback"]


def test_long_values_are_cut(lines: io.StringIO) -> None:
    logger.info("big", extra={"value": "x" * 10_000})

    (entry,) = entries(lines)
    assert len(entry["value"]) < 2100
    assert entry["value"].endswith("(10000 characters)")


@given(st.text(), st.text())
def test_log_injection_forges_no_line_and_sends_no_control_code(event: str, value: str) -> None:
    for formatter in (log.JsonFormatter(), log.TextFormatter()):
        record = logging.makeLogRecord({"msg": event, "levelname": "INFO", "agent": value})
        assert log.RedactionFilter().filter(record)

        line = formatter.format(record)

        assert line.isascii()
        assert line.isprintable()


def test_text_form_is_key_and_value(lines: io.StringIO) -> None:
    log.configure("info", "text", lines)
    logger.warning("agent.lost", extra={"cluster": "prod", "why": "no answer\n", "streams": 2})

    line = lines.getvalue().strip()
    assert line.split(" ", 1)[1] == (
        r'warning agent.lost logger=mk8s_proxy.test cluster=prod why="no answer\n" streams=2'
    )


def test_a_worker_says_which_one_it_is() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    log.configure("info", "json", stream, worker=3)
    try:
        logger.info("worker.ready")
        logger.info("told", extra={"worker": 7})
    finally:
        root.handlers, root.level = handlers, level
    assert [entry["worker"] for entry in entries(stream)] == [3, 7]
