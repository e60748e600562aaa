"""Goal: a log line is one JSON object, whatever was logged, and says only what the call named.

Method: records made as loggers make them, formatted and parsed again.
"""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from storage_gateway.logs import JSONFormatter, configure_logs


def line(message: str, *args: object, **extra: object) -> dict[str, object]:
    logger = logging.getLogger("storage_gateway.test")
    record = logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, message, args, None, extra=extra or None
    )
    text = JSONFormatter().format(record)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_has_time_level_event_and_logger() -> None:
    parsed = line("upload aborted")

    assert {"time", "level", "event", "logger"} == set(parsed)
    assert "upload aborted" == parsed["event"]
    assert "warning" == parsed["level"]
    stamp = datetime.fromisoformat(str(parsed["time"]))
    assert stamp.utcoffset() is not None


def test_fields_are_those_of_the_call_and_none_is_left_out() -> None:
    parsed = line("request", status=201, code=None, path="/v1")

    assert {"status": 201, "path": "/v1"} == {
        k: v for k, v in parsed.items() if k not in ("time", "level", "event", "logger")
    }


@pytest.mark.parametrize("odd", ["a\nb", '"', "\x00", "\udcff", "\u2028"], ids=ascii)
def test_nothing_that_is_logged_breaks_the_line(odd: str) -> None:
    parsed = line("request %s", odd, path=odd)

    assert f"request {odd}" == parsed["event"]
    assert odd == parsed["path"]


def test_what_json_does_not_know_is_written_as_text() -> None:
    assert "{1}" == line("x", things={1})["things"]


def test_a_trace_stays_in_its_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "p", 1, "failed", None, sys.exc_info())

    text = JSONFormatter().format(record)

    assert "\n" not in text
    assert "ValueError: why" in json.loads(text)["trace"]


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    ours = logging.getLogger("storage_gateway")
    before = root.handlers, root.level, ours.level
    yield root
    root.handlers, root.level, ours.level = before


def test_libraries_speak_of_warnings_only_and_we_as_asked(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info")

    logging.getLogger("aiohttp.access").info("GET / with a token")
    logging.getLogger("storage_gateway.write").info("ours")
    logging.getLogger("storage_gateway.write").debug("too much")

    captured = capsys.readouterr()
    assert "" == captured.out
    assert ["ours"] == [json.loads(text)["event"] for text in captured.err.splitlines()]
