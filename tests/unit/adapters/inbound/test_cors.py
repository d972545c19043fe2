from http import HTTPStatus

import httpx
import pytest
from tests.fakes.guarded_app import CHAT, GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys

from semantic.domain.api_key import KeyLimits

PAGE, OTHER = "https://chat.example", "https://evil.example"
SENT = (
    "authorization, x-api-key, content-type, anthropic-version, anthropic-beta, "
    "anthropic-dangerous-direct-browser-access, x-agent-id, x-stainless-lang, x-stainless-os, "
    "x-stainless-arch, x-stainless-runtime, x-stainless-runtime-version, "
    "x-stainless-package-version, x-stainless-retry-count, x-stainless-timeout"
)


def guarded(*origins: str) -> GuardedApp:
    return GuardedApp(MemoryApiKeys(key("alpha")), KeyLimits(1), origins=origins)


def preflight(app: GuardedApp, origin: str, sent: str = SENT) -> httpx.Response:
    headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", sent),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    return app.ask("OPTIONS", headers=headers)


def allowed(answer: httpx.Response) -> str | None:
    found: str | None = answer.headers.get("Access-Control-Allow-Origin")
    return found


def test_a_browser_is_told_that_a_page_may_ask_without_showing_a_key() -> None:
    answer = preflight(guarded(PAGE), PAGE)
    assert (answer.status_code, allowed(answer)) == (HTTPStatus.OK, PAGE)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Origin" in answer.headers["Vary"]


def test_no_page_may_send_cookies() -> None:
    for origins in ((PAGE,), ("*",)):
        app = guarded(*origins)
        for answer in (preflight(app, PAGE), app.ask(headers=[("Origin", PAGE)])):
            assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origins", [(), (PAGE,)])
def test_another_page_may_not_ask(origins: tuple[str, ...]) -> None:
    app = guarded(*origins)
    assert allowed(preflight(app, OTHER)) is None
    assert allowed(app.ask(shown="alpha", headers=[("Origin", OTHER)])) is None


def test_a_page_reads_answers_and_what_stands_in_their_headers() -> None:
    answer = guarded(PAGE).ask(shown="alpha", headers=[("Origin", PAGE)])
    assert (answer.status_code, allowed(answer)) == (HTTPStatus.OK, PAGE)
    exposed = answer.headers["Access-Control-Expose-Headers"].lower().split(", ")
    ours = [name for name in answer.headers if name.startswith(("x-", "anthropic-", "retry"))]
    assert "x-ratelimit-limit-requests" in ours
    assert set(ours) <= set(exposed)


def test_a_page_reads_why_it_was_refused() -> None:
    app = guarded(PAGE)
    origin = [("Origin", PAGE)]
    first = app.ask(shown="alpha", headers=origin)
    limited = app.ask(shown="alpha", headers=origin)
    keyless = app.ask(headers=origin)
    unknown = app.ask("GET", CHAT, shown="alpha", headers=origin)
    found = [one.status_code for one in (first, limited, keyless, unknown)]
    assert found == [200, 429, 401, 405]
    assert {allowed(one) for one in (first, limited, keyless, unknown)} == {PAGE}


def test_a_crash_is_told_to_a_page_too() -> None:
    app = guarded(PAGE)
    app.inference.refusal = KeyError("unforeseen")
    answer = app.ask(shown="alpha", headers=[("Origin", PAGE)])
    assert (answer.status_code, allowed(answer)) == (HTTPStatus.INTERNAL_SERVER_ERROR, PAGE)


def test_any_page_may_ask_where_the_operator_says_so() -> None:
    app = guarded("*")
    assert allowed(preflight(app, OTHER)) == "*"
    assert app.ask(headers=[("Origin", OTHER)]).status_code == HTTPStatus.UNAUTHORIZED
