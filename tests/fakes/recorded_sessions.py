"""What real clients have sent, as the conversations that the APIs make of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.domain.chat import Conversation

FOLDER = Path(__file__).parents[1] / "recorded"

_LIMITS = Limits(max_body_bytes=1 << 20, ping_interval_s=1.0, shutdown_timeout_s=1.0)
_UNSENT = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}
"""Headers of the connection, which is another one here."""


@dataclass(frozen=True)
class RecordedRequest:
    """One request of a session, its headers by small names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: object


def recorded(session: str) -> list[RecordedRequest]:
    """A session's requests, in the order in which they came."""
    found = [json.loads(path.read_text()) for path in sorted((FOLDER / session).glob("*.json"))]
    assert found, f"no session {session} in {FOLDER}"
    return [
        RecordedRequest(
            one["method"],
            one["path"],
            {name.lower(): value for name, value in one["headers"]},
            one["body"],
        )
        for one in found
    ]


async def conversations(*requests: RecordedRequest) -> list[Conversation]:
    """What the server is asked for by them."""
    inference = ScriptedInference()
    app = create_app(inference, RecordedTelemetry(), FixedClock(), _LIMITS)
    async with _client(app) as client:
        for request in requests:
            headers = {k: v for k, v in request.headers.items() if k not in _UNSENT}
            answer = await client.request(
                request.method, request.path, headers=headers, json=request.body
            )
            assert answer.status_code == httpx.codes.OK, answer.text
    found = [request.prompt for request in inference.requests]
    assert len(found) == len(requests)
    return [prompt for prompt in found if isinstance(prompt, Conversation)]


def _client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")
