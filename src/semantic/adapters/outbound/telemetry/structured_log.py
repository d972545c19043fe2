"""Telemetry as log lines. How they look is decided where logging is configured."""

import structlog

LOGGER_NAME = "semantic"


class StructuredLog:
    """Implements the port `Telemetry`."""

    def __init__(self) -> None:
        self._logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(LOGGER_NAME)

    def info(self, event: str, **fields: str | float | bool | None) -> None:
        """Log at level INFO."""
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: str | float | bool | None) -> None:
        """Log at level WARNING."""
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: str | float | bool | None) -> None:
        """Log at level ERROR."""
        self._logger.error(event, **fields)
