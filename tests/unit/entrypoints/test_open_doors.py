"""A server that others could reach starts with a key, or because its operator said so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from semantic.adapters.outbound.storage.key_file import FILE, KeyFile
from semantic.domain.api_key import ApiKey, digest_of
from semantic.domain.errors import SemanticError
from semantic.domain.ids import KeyName
from semantic.entrypoints import server
from semantic.entrypoints.running_server import is_loopback

Run = Callable[..., tuple[int, str, str]]
ALICE = ApiKey(KeyName("alice"), digest_of("a"), 1.0)


class ModelWantedError(SemanticError):
    """The server got as far as loading its model."""


@pytest.fixture
def serve(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Start a server that fails as soon as it wants its model; exit code and complaint."""

    def load(*_: object) -> None:
        raise ModelWantedError("the model is wanted")

    monkeypatch.setattr("semantic.entrypoints.started_engine.load", load)
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)

    def start(host: str, **settings: str) -> tuple[int, str]:
        for name, value in settings.items():
            monkeypatch.setenv(f"SEMANTIC_SERVER__{name.upper()}", value)
        store = str(tmp_path / "kv")
        code, _, err = run("serve", "--host", host, "--port", "0", "--store", store)
        return code, err

    return start


Serve = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - nothing listens
def test_without_a_key_it_is_not_opened_to_others(serve: Serve, tmp_path: Path, host: str) -> None:
    code, err = serve(host)
    assert code == 2
    for told in ("server.host", host, "semantic keys create", "server.allow_open"):
        assert told in err
    assert not (tmp_path / "kv" / "store.lock").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_on_this_machine_alone_it_needs_none(serve: Serve, host: str) -> None:
    assert serve(host) == (1, "error: the model is wanted\n")


def test_with_a_key_it_is_opened_to_others(serve: Serve, tmp_path: Path) -> None:
    KeyFile(tmp_path / "kv").add(ALICE)
    assert serve("0.0.0.0") == (1, "error: the model is wanted\n")  # noqa: S104 - nothing listens


def test_it_is_opened_to_others_where_the_operator_says_so(serve: Serve) -> None:
    found = serve("0.0.0.0", allow_open="true")  # noqa: S104 - nothing listens
    assert found == (1, "error: the model is wanted\n")


def test_it_is_opened_to_every_page_only_with_a_key(serve: Serve, tmp_path: Path) -> None:
    code, err = serve("127.0.0.1", cors_origins="*")
    assert code == 2
    assert "server.cors_origins" in err
    KeyFile(tmp_path / "kv").add(ALICE)
    assert serve("127.0.0.1", cors_origins="*") == (1, "error: the model is wanted\n")


@pytest.mark.parametrize("allow_open", ["true", "false"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - nothing listens
def test_damaged_keys_open_nothing(
    serve: Serve, tmp_path: Path, host: str, allow_open: str
) -> None:
    KeyFile(tmp_path / "kv").add(ALICE)
    (tmp_path / "kv" / FILE).write_text(json.dumps([]))
    code, err = serve(host, allow_open=allow_open)
    assert code == 1
    assert "nobody is let in" in err


@pytest.mark.parametrize(
    ("address", "loops"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.7", False)),  # noqa: S104 - an example
        *(("fe80::1%eth0", False), ("::ffff:10.0.0.1", False)),
    ],
)
def test_loopback_is_known_in_both_families(address: str, *, loops: bool) -> None:
    assert is_loopback(address) == loops
