from http import HTTPStatus

import pytest
from tests.fakes.guarded_app import GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys

PAGE = "https://chat.example"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8000", "localhost", "LocalHost:1", "app.localhost", "localhost."),
        *("[::1]", "[::1]:8000", "192.168.1.7:8000", "MyMac.local:8000", "chat.example"),
    ],
)
def test_a_name_of_the_servers_own_is_answered(host: str) -> None:
    app = GuardedApp(hosts=("mymac.local",), origins=(PAGE,))
    assert app.ask(headers=[("Host", host)]).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "notlocalhost", "[:"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_somebody_elses_name_is_refused_where_no_key_is_needed(host: str, method: str) -> None:
    app = GuardedApp(hosts=("mymac.local",), origins=(PAGE,))
    answer = app.ask(method, headers=[("Host", host)])
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert "server.allowed_hosts" in answer.json()["error"]["message"]
    assert app.inference.requests == []


def test_any_name_is_fine_where_a_key_is_shown() -> None:
    app = GuardedApp(MemoryApiKeys(key("alpha")))
    answer = app.ask(shown="alpha", headers=[("Host", "evil.example")])
    assert answer.status_code == HTTPStatus.OK


def test_the_operator_can_allow_any_name() -> None:
    app = GuardedApp(hosts=("*",))
    assert app.ask(headers=[("Host", "evil.example")]).status_code == HTTPStatus.OK
