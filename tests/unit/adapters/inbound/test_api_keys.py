from http import HTTPStatus

import pytest
import structlog
from tests.fakes.guarded_app import CHAT, GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys

from semantic.domain.api_key import ApiKey
from semantic.domain.ids import TenantId

TEAM = TenantId("team")


def guarded(*keys: ApiKey) -> GuardedApp:
    return GuardedApp(MemoryApiKeys(*keys))


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer alpha"),
        ("authorization", "bearer  alpha "),
        ("x-api-key", "alpha"),
        ("X-API-Key", " alpha"),
    ],
)
def test_a_key_opens_however_it_is_shown(header: tuple[str, str]) -> None:
    app = guarded(key("alpha"))
    assert app.ask(headers=[header]).status_code == HTTPStatus.OK
    assert len(app.inference.requests) == 1


def test_either_of_two_keys_opens() -> None:
    headers = [("x-api-key", "alpha"), ("Authorization", "Bearer somebody-elses")]
    assert guarded(key("alpha")).ask(headers=headers).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer beta")],
        [("Authorization", "Basic alpha")],
        [("Authorization", "alpha")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer alpha beta")],
        [("x-api-key", "")],
        [("x-api-key", "ålpha")],
        [("Cookie", "alpha")],
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("HEAD", "/"),
        ("GET", "/nothing"),
        ("GET", "/healthy"),
        ("GET", "/health/../v1/models"),
        ("POST", "//v1/chat/completions"),
    ],
)
def test_without_a_known_key_nothing_is_told_or_done(
    method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    app = guarded(key("alpha"))
    answer = app.ask(method, path, headers=headers)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["X-Request-ID"]
    assert app.inference.requests == []
    if method != "HEAD":
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


def test_who_shows_none_is_told_how_and_who_shows_a_wrong_one_that_it_is_wrong() -> None:
    app = guarded(key("alpha"))
    assert "x-api-key" in app.ask().json()["error"]["message"]
    wrong = app.ask(shown="beta").json()["error"]["message"]
    assert "not known" in wrong
    assert "beta" not in wrong


@pytest.mark.parametrize("shown", [None, "anything", "sk-none"])
def test_where_none_is_needed_any_key_is_fine(shown: str | None) -> None:
    app = guarded()
    assert app.ask(shown=shown).status_code == HTTPStatus.OK
    assert app.inference.requests[0].tenant == "default"


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_probes_of_health_need_no_key(path: str) -> None:
    assert guarded(key("alpha")).ask("GET", path).status_code == HTTPStatus.OK


def test_administration_is_not_opened_by_a_key() -> None:
    # There is none here; that it answers at all, in its own way, is what the key has no part in.
    answer = guarded(key("alpha")).ask("GET", "/admin/agents")
    assert answer.status_code == HTTPStatus.NOT_FOUND


def test_a_key_that_is_revoked_opens_nothing_any_more() -> None:
    app = guarded(key("alpha"), key("beta"))
    assert app.ask(shown="alpha").status_code == HTTPStatus.OK
    app.keys.remove(key("alpha").name)
    app.access.look()
    assert app.ask(shown="alpha").status_code == HTTPStatus.UNAUTHORIZED
    assert app.ask(shown="beta").status_code == HTTPStatus.OK


def test_while_keys_cannot_be_read_nobody_is_let_in() -> None:
    app = guarded(key("alpha"))
    app.keys.damaged = True
    app.access.look()
    answer = app.ask(shown="alpha")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.json()["error"]["code"] == "keys_unreadable"
    assert app.ask("GET", "/health").status_code == HTTPStatus.OK


def test_what_is_asked_is_its_tenants() -> None:
    app = guarded(key("alpha"), key("beta", TEAM))
    app.ask(shown="alpha")
    app.ask(shown="beta")
    assert [request.tenant for request in app.inference.requests] == ["default", "team"]


def test_nothing_of_a_caller_is_left_for_the_next() -> None:
    app = guarded(key("alpha"))
    app.ask(shown="alpha")
    assert "caller" not in structlog.contextvars.get_contextvars()
