"""How log lines look and which are written.

Every line, ours and the libraries', goes through one formatter on the root logger. Nothing that
a user or a model wrote may reach it: libraries log what they carry at DEBUG (sse-starlette every
chunk of an answer), and tracebacks that show local variables show prompts.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import Processor

OWN_LOGGER = "semantic"
LIBRARY_LEVEL = logging.INFO
"""The lowest level at which libraries are heard."""

_UVICORN_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access")


def configure_logging(
    level: str, style: Literal["console", "json"], stream: TextIO | None = None
) -> None:
    """Send all log lines of the process to `stream` (stderr), replacing what was set up before.

    uvicorn must be run with `log_config=None`, or it sets up its own lines again.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(style, colors=stream.isatty()),
            ],
        )
    )
    _route(handler, logging.getLevelNamesMapping()[level])


def _renderers(style: Literal["console", "json"], *, colors: bool) -> list[Processor]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _route(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, LIBRARY_LEVEL))
    logging.getLogger(OWN_LOGGER).setLevel(level)
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
