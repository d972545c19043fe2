import pytest
from structlog.testing import capture_logs

from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.ports.telemetry import Telemetry


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_an_event_is_logged_with_its_fields_at_its_level(level: str) -> None:
    telemetry: Telemetry = StructuredLog()
    with capture_logs() as lines:
        getattr(telemetry, level)("something", count=3, why=None)
    assert lines == [{"event": "something", "log_level": level, "count": 3, "why": None}]
