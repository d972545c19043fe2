"""Telemetry that remembers."""

from dataclasses import dataclass, field
from typing import NamedTuple

Value = str | float | bool | None


class Event(NamedTuple):
    level: str
    name: str
    fields: dict[str, Value]


@dataclass
class RecordedTelemetry:
    """Implements the port `Telemetry`; `events` are in the order of their arrival."""

    events: list[Event] = field(default_factory=list)

    def info(self, event: str, **fields: Value) -> None:
        self.events.append(Event("info", event, fields))

    def warning(self, event: str, **fields: Value) -> None:
        self.events.append(Event("warning", event, fields))

    def error(self, event: str, **fields: Value) -> None:
        self.events.append(Event("error", event, fields))

    def names(self, level: str | None = None) -> list[str]:
        """Names of the events, of one level or of all."""
        return [event.name for event in self.events if level in (None, event.level)]
