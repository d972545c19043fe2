"""The HTTP application behind its doors, asked without a socket."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_api_keys import MemoryApiKeys
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.doors import Doors
from semantic.adapters.inbound.limits import Limits
from semantic.application.access import Access
from semantic.domain.api_key import NO_LIMITS, ApiKey, KeyLimits, digest_of
from semantic.domain.ids import DEFAULT_TENANT, KeyName, TenantId

LIMITS = Limits(20_000, 1.0, 1.0, max_header_bytes=4_000, request_timeout_s=0.1)
BODY = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"

AS_ALL = KeyLimits()
Headers = Sequence[tuple[str, str]]


def key(text: str, tenant: TenantId = DEFAULT_TENANT, limits: KeyLimits = AS_ALL) -> ApiKey:
    """A key that is called as it is spelled."""
    return ApiKey(KeyName(text), digest_of(text), 0.0, tenant, limits)


@dataclass
class GuardedApp:
    """An application that needs `keys`, if there are any."""

    keys: MemoryApiKeys = field(default_factory=MemoryApiKeys)
    limits: KeyLimits = NO_LIMITS
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    inference: ScriptedInference = field(default_factory=ScriptedInference)
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        self.telemetry = RecordedTelemetry()
        self.access = Access(self.keys, self.telemetry)
        self.app = create_app(
            self.inference,
            self.telemetry,
            self.clock,
            LIMITS,
            doors=Doors(self.access, self.limits, self.hosts, self.origins),
        )

    def ask(
        self,
        method: str = "POST",
        path: str = CHAT,
        shown: str | None = None,
        headers: Headers = (),
        host: str = "127.0.0.1:8000",
    ) -> httpx.Response:
        """What it answers; a POST asks for an answer."""
        return asyncio.run(self.asked(method, path, shown, headers, host))

    async def asked(
        self,
        method: str = "POST",
        path: str = CHAT,
        shown: str | None = None,
        headers: Headers = (),
        host: str = "127.0.0.1:8000",
    ) -> httpx.Response:
        """The same from within a loop."""
        sent = [*headers, *([("Authorization", f"Bearer {shown}")] if shown else [])]
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            encoded = [(name.encode(), value.encode()) for name, value in sent]
            return await http.request(
                method, path, headers=encoded, json=BODY if method == "POST" else None
            )
