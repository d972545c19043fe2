"""What the application reports. Never prompt text."""

from typing import Protocol


class Telemetry(Protocol):
    """Structured events."""

    def info(self, event: str, **fields: str | float | bool | None) -> None:
        """Something worth knowing happened."""

    def warning(self, event: str, **fields: str | float | bool | None) -> None:
        """Something went wrong and was dealt with."""

    def error(self, event: str, **fields: str | float | bool | None) -> None:
        """Something went wrong and a request, or the server, suffered from it."""
