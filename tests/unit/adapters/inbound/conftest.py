import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.domain.chat import (
    NOBODY,
    Asker,
    Conversation,
    GenerationEvent,
    GenerationRequest,
    RawPrompt,
)
from semantic.ports.inference import Inference, ModelInfo

LIMITS = Limits(max_body_bytes=20_000, ping_interval_s=0.05, shutdown_timeout_s=0.5)
START_TIMEOUT_S = 10.0


@dataclass
class Stage:
    """An `Inference` behind which each test puts its own: one server does for all."""

    playing: Inference
    telemetry: RecordedTelemetry
    base: str = ""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        return await self.playing.generate(request)

    async def count(
        self, asked: Conversation | RawPrompt, model: str, asker: Asker = NOBODY
    ) -> int:
        return await self.playing.count(asked, model, asker)

    def models(self) -> tuple[ModelInfo, ...]:
        return self.playing.models()

    def ready(self) -> bool:
        return self.playing.ready()

    def failure(self) -> str | None:
        return self.playing.failure()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    )
    # asyncio sets TCP_NODELAY only where the protocol is named: 40 ms a response otherwise.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage(ScriptedInference(), RecordedTelemetry())
    with served(create_app(stage, stage.telemetry, FixedClock(), LIMITS)) as base:
        stage.base = base
        yield stage


@pytest.fixture
def telemetry(stage: Stage) -> RecordedTelemetry:
    stage.telemetry.events.clear()
    return stage.telemetry


@pytest.fixture
def serve(stage: Stage) -> Callable[[Inference], str]:
    """Serve an inference on a real socket; its address."""

    def put(inference: Inference) -> str:
        stage.playing = inference
        return stage.base

    return put


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """One client for all: each has to read the system's certificates first."""
    with httpx.Client() as client:
        yield client
