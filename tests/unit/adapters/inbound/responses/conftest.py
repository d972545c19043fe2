from collections.abc import Callable, Iterator

import openai
import pytest
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_response_store import MemoryResponseStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference
from tests.unit.adapters.inbound.conftest import LIMITS, Stage, served

from semantic.adapters.inbound.app import create_app
from semantic.application.response_history import ResponseHistory
from semantic.ports.inference import Inference


@pytest.fixture(scope="session")
def kept() -> MemoryResponseStore:
    """The responses of all tests; their ids differ."""
    return MemoryResponseStore()


@pytest.fixture(scope="session")
def stage(kept: MemoryResponseStore) -> Iterator[Stage]:
    stage = Stage(ScriptedInference(), RecordedTelemetry())
    history = ResponseHistory(kept, stage.telemetry)
    app = create_app(stage, stage.telemetry, FixedClock(), LIMITS, history=history)
    with served(app) as base:
        stage.base = base
        yield stage


@pytest.fixture
def store(kept: MemoryResponseStore) -> Iterator[MemoryResponseStore]:
    yield kept
    kept.failing = False


@pytest.fixture(scope="session")
def sdk(stage: Stage) -> Iterator[openai.OpenAI]:
    """The official client; the test puts an inference behind it with `serve`."""
    with openai.OpenAI(base_url=f"{stage.base}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plays(serve: Callable[[Inference], str]) -> Callable[..., ScriptedInference]:
    """Have these events answer what comes."""

    def put(*script: object) -> ScriptedInference:
        inference = ScriptedInference(script) if script else ScriptedInference()  # type: ignore[arg-type]  # steps, checked when they are played
        serve(inference)
        return inference

    return put
