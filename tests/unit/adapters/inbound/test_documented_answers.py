"""What is answered is what the OpenAPI document says, whatever is asked.

`make test-clients` does the same with a real model, and more often.
"""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_administration import ScriptedAdministration
from tests.fakes.scripted_inference import ScriptedInference
from tests.unit.adapters.inbound.conftest import LIMITS

from semantic.adapters.inbound.admin import AdminAccess
from semantic.adapters.inbound.app import create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TOKEN = "token"  # noqa: S105 - of nothing
EXAMPLES = 25


def documented() -> BaseSchema:
    admin = AdminAccess(ScriptedAdministration(), TOKEN)
    app = create_app(ScriptedInference(), RecordedTelemetry(), FixedClock(), LIMITS, admin=admin)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_answer_is_one_of_those_documented() -> None:
    asked = set()

    def ask(case: "Case[Any]") -> None:
        asked.add(case.operation.label)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(checks=CHECKS, headers=headers)

    for found in documented().get_all_operations():
        assert isinstance(found, Ok)
        settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(case=found.ok().as_strategy())(ask))()
    assert "POST /v1/chat/completions" in asked
    assert "POST /v1/messages" in asked
    assert "POST /v1/responses" in asked
