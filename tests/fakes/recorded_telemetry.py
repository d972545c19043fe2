"""Telemetry that remembers."""

from dataclasses import dataclass, field

Value = str | float | bool | None


@dataclass
class RecordedTelemetry:
    """Implements the port `Telemetry`; `events` holds (level, event, fields)."""

    events: list[tuple[str, str, dict[str, Value]]] = field(default_factory=list)

    def info(self, event: str, **fields: Value) -> None:
        self.events.append(("info", event, fields))

    def warning(self, event: str, **fields: Value) -> None:
        self.events.append(("warning", event, fields))

    def error(self, event: str, **fields: Value) -> None:
        self.events.append(("error", event, fields))
