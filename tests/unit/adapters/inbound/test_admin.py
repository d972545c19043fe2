import asyncio
import json
from dataclasses import asdict

import httpx
import pytest
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_administration import USE, ScriptedAdministration
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.admin import AdminAccess
from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.domain.errors import AgentBusyError, CachePersistenceError
from semantic.ports.administration import AgentSummary

LIMITS = Limits(max_body_bytes=20_000, ping_interval_s=1, shutdown_timeout_s=1)
TOKEN = "a token"  # noqa: S105 - of a server that does not exist
NAMES = ["alice", "a/b", "../x"[3:], ".", "ü & ?name=#%2F", "🦜"]


@pytest.fixture
def administration() -> ScriptedAdministration:
    found = [AgentSummary(name, "n" * 64, (3, 4), 7, 1.5, 4, (2, 4)) for name in NAMES]
    return ScriptedAdministration(found)


def ask(
    administration: ScriptedAdministration | None,
    method: str = "GET",
    token: str | None = TOKEN,
    name: str | None = None,
    path: str = "/admin/agents",
    tenant: str | None = None,
) -> httpx.Response:
    admin = AdminAccess(administration, TOKEN) if administration else None
    app = create_app(ScriptedInference(), RecordedTelemetry(), FixedClock(), LIMITS, admin=admin)
    headers = {b"Authorization": f"Bearer {token}".encode()} if token is not None else {}

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            said = {"name": name, "tenant": tenant}
            params = {key: value for key, value in said.items() if value is not None}
            return await http.request(method, path, params=params, headers=headers)

    return asyncio.run(run())


def test_agents_are_listed(administration: ScriptedAdministration) -> None:
    found = ask(administration).json()["data"]
    assert [agent["name"] for agent in found] == NAMES
    expected = asdict(administration.found[0])
    assert found[0] == json.loads(json.dumps(expected))
    assert found[0]["durable_tokens"] == 4


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_of_any_name_is_shown_and_deleted(
    administration: ScriptedAdministration, name: str
) -> None:
    [shown] = ask(administration, name=name).json()["data"]
    assert (shown["name"], shown["bytes"], shown["bytes_alone"]) == (name, 300, 200)
    deleted = ask(administration, "DELETE", name=name)
    assert deleted.json() == {"name": name, "memories": 1, "blocks": 2}
    assert ask(administration, name=name).status_code == 404


def test_an_unknown_agent_is_404(administration: ScriptedAdministration) -> None:
    answer = ask(administration, "DELETE", name="nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "agent_not_found")


def test_another_tenants_agents_are_others(administration: ScriptedAdministration) -> None:
    assert ask(administration, tenant="team").json() == {"data": []}
    assert len(ask(administration, tenant="default").json()["data"]) == len(NAMES)
    for method in ("GET", "DELETE"):
        assert ask(administration, method, name="alice", tenant="team").status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_tenant_that_can_be_nobody_is_refused(
    administration: ScriptedAdministration, method: str
) -> None:
    answer = ask(administration, method, name="alice", tenant="No one")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tenant")


@pytest.mark.parametrize("name", [None, "", "a\nb"])
def test_a_deletion_must_name_an_agent(
    administration: ScriptedAdministration, name: str | None
) -> None:
    answer = ask(administration, "DELETE", name=name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")
    assert len(administration.found) == len(NAMES)


@pytest.mark.parametrize(
    ("failure", "status"), [(AgentBusyError("busy"), 409), (CachePersistenceError("full"), 500)]
)
def test_a_failure_has_its_status(
    administration: ScriptedAdministration, failure: Exception, status: int
) -> None:
    administration.failure = failure
    assert ask(administration, "DELETE", name="alice").status_code == status


def test_the_memory_for_kv_is_shown(administration: ScriptedAdministration) -> None:
    answer = ask(administration, path="/admin/memory")
    assert answer.status_code == 200
    assert answer.json() == asdict(USE) | {"pressure": "moderate"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/agents"), ("DELETE", "/admin/agents"), ("GET", "/admin/memory")],
)
@pytest.mark.parametrize("token", [None, "", "another", "a tokeñ"])
def test_without_the_token_nothing_is_told_or_done(
    administration: ScriptedAdministration, method: str, path: str, token: str | None
) -> None:
    answer = ask(administration, method, token=token, name="alice", path=path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "alice" not in answer.text
    assert "pressure" not in answer.text
    assert len(administration.found) == len(NAMES)


@pytest.mark.parametrize("path", ["/admin/agents", "/admin/memory"])
def test_a_server_without_administration_has_no_such_routes(path: str) -> None:
    assert ask(None, path=path).status_code == 404
