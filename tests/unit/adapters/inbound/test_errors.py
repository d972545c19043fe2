import inspect

import pytest
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.inbound.errors import BodyTooLargeError, report
from semantic.domain import errors
from semantic.domain.errors import (
    AgentBusyError,
    AgentNotFoundError,
    CacheCorruptionError,
    CachePersistenceError,
    ContextLengthError,
    EngineError,
    IncompatibleCacheError,
    InvalidRequestError,
    KeyNotFoundError,
    KVBudgetError,
    ModelLoadError,
    ModelNotFoundError,
    ModelSwapError,
    PoolExhaustedError,
    SemanticError,
    StoreLockedError,
)

STATUS: dict[SemanticError, int] = {
    InvalidRequestError("x", field="f"): 400,
    ContextLengthError("x", field="messages"): 400,
    KVBudgetError("x", field="max_tokens"): 413,
    BodyTooLargeError("x", field=None): 413,
    AgentNotFoundError("x"): 404,
    KeyNotFoundError("x"): 404,
    AgentBusyError("x"): 409,
    ModelNotFoundError("x", tried=()): 404,
    PoolExhaustedError("x"): 429,
    ModelLoadError("x"): 500,
    ModelSwapError("x"): 500,
    CachePersistenceError("x"): 500,
    StoreLockedError("x"): 500,
    CacheCorruptionError("x"): 500,
    IncompatibleCacheError("x"): 500,
    EngineError("x"): 503,
    SemanticError("x"): 500,
}


@pytest.mark.parametrize(("error", "status"), STATUS.items(), ids=repr)
def test_each_error_has_its_status(error: SemanticError, status: int) -> None:
    assert report(error, RecordedTelemetry()).status == status


def test_no_error_of_the_domain_is_forgotten() -> None:
    known = {type(error) for error in STATUS}
    defined = {cls for _, cls in inspect.getmembers(errors, inspect.isclass)}
    assert defined <= known


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(None, "1"), (1.0, "1"), (2.1, "3"), (60.0, "60")]
)
def test_who_is_refused_for_now_hears_when_to_come_back(
    retry_after_s: float | None, header: str
) -> None:
    error = PoolExhaustedError("full", retry_after_s=retry_after_s)
    assert report(error, RecordedTelemetry()).headers == {"Retry-After": header}


@pytest.mark.parametrize(("error", "status"), STATUS.items(), ids=repr)
def test_only_the_servers_own_faults_are_logged(error: SemanticError, status: int) -> None:
    telemetry = RecordedTelemetry()
    report(error, telemetry)
    assert len(telemetry.events) == (status >= 500)
