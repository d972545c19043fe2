import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from semantic.adapters.config.logging import OWN_LOGGER, configure_logging
from semantic.adapters.outbound.telemetry.structured_log import LOGGER_NAME, StructuredLog

NAMES = ("", OWN_LOGGER, "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    structlog.reset_defaults()
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_event_level_time_and_fields() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream)
    StructuredLog().warning("block_lost", key="ab", bytes=7)
    [line] = json_lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "block_lost",
        "level": "warning",
        "logger": "semantic",
        "key": "ab",
        "bytes": 7,
    }


def test_a_console_line_is_one_line_without_colours_in_a_file() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "console", stream)
    StructuredLog().error("block_lost", key="a\nb\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "block_lost" in stream.getvalue()


def test_lines_of_one_request_carry_its_names() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1", agent="k1"):
        StructuredLog().info("admitted")
        logging.getLogger("uvicorn.access").info('%s - "%s"', "127.0.0.1:1", "GET /")
    StructuredLog().info("idle")
    ours, access, after = json_lines(stream)
    assert (ours["request_id"], ours["agent"]) == ("r1", "k1")
    assert access["request_id"] == "r1"
    assert access["event"] == '127.0.0.1:1 - "GET /"'
    assert "request_id" not in after


def test_the_level_counts_for_us() -> None:
    stream = io.StringIO()
    configure_logging("ERROR", "json", stream)
    log = StructuredLog()
    log.info("a")
    log.warning("b")
    log.error("c")
    assert [line["event"] for line in json_lines(stream)] == ["c"]


def test_libraries_are_never_heard_at_debug_because_they_quote_answers() -> None:
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream)
    logging.getLogger("sse_starlette.sse").debug("chunk: %s", "secret")
    logging.getLogger("uvicorn.error").debug("secret")
    logging.getLogger("semantic.engine").debug("ours")
    assert [line["event"] for line in json_lines(stream)] == ["ours"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_variables(style: str) -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json" if style == "json" else "console", stream)
    prompt = "secret".upper()
    try:
        "".index(prompt)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "SECRET" not in stream.getvalue()


def test_a_line_of_uvicorns_is_written_once_though_it_had_handlers_of_its_own() -> None:
    stream = io.StringIO()
    access = logging.getLogger("uvicorn.access")
    access.addHandler(logging.StreamHandler(stream))
    access.propagate = False
    configure_logging("INFO", "json", stream)
    configure_logging("INFO", "json", stream)
    access.info("GET /")
    assert len(stream.getvalue().splitlines()) == 1


def test_our_lines_are_written_under_the_name_that_is_configured() -> None:
    assert LOGGER_NAME == OWN_LOGGER
