import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from semantic.adapters.outbound.storage.key_file import FILE, KeyFile
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.domain.api_key import KeyLimits, matching

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "kv")


def test_a_key_is_printed_once_and_opens(run: Run, store: str) -> None:
    code, out, err = run("keys", "create", "laptop", "--store", store)
    text = out.strip()
    assert code == 0
    assert text.startswith("sk-semantic-")
    assert "cannot be shown again" in err
    assert "lets in nobody without" in err
    assert text not in err
    found = matching(KeyFile(Path(store)).all(), text)
    assert found is not None
    assert (found.name, found.tenant, found.limits) == ("laptop", "default", KeyLimits())
    assert text[-64:] not in (Path(store) / FILE).read_text()
    assert text not in run("keys", "list", "--store", store, "--json")[1]


def test_every_key_is_another(run: Run, store: str) -> None:
    keys = {run("keys", "create", name, "--store", store)[1] for name in ("a", "b", "c")}
    assert len(keys) == 3


def test_keys_are_listed_for_people(run: Run, store: str) -> None:
    run("keys", "create", "laptop", "--store", store)
    limits = ["--tenant", "team", "--requests-per-minute", "60", "--concurrent", "0"]
    run("keys", "create", "ci", *limits, "--store", store)
    code, out, err = run("keys", "list", "--store", store)
    assert (code, err) == (0, "")
    heading, laptop, ci = (line.split() for line in out.splitlines())
    assert heading == ["KEY", "TENANT", "A", "MINUTE", "AT", "ONCE", "CREATED"]
    assert laptop[:4] == ["laptop", "default", "default", "default"]
    assert ci[:4] == ["ci", "team", "60", "-"]


def test_keys_are_listed_for_programs(run: Run, store: str) -> None:
    said = ["--tenant", "team", "--concurrent", "2"]
    created = json.loads(run("keys", "create", "ci", *said, "--store", store, "--json")[1])
    [listed] = json.loads(run("keys", "list", "--store", store, "--json")[1])
    assert created.pop("key").startswith("sk-semantic-")
    assert listed == created
    assert listed["created_at"].endswith("Z")
    del listed["created_at"]
    assert listed == {
        "name": "ci",
        "tenant": "team",
        "requests_per_minute": None,
        "concurrent": 2,
    }


def test_no_keys_are_an_empty_list_and_make_no_store(run: Run, store: str) -> None:
    code, out, err = run("keys", "list", "--store", store)
    assert (code, out) == (0, "")
    assert "needs none" in err
    assert run("keys", "list", "--store", store, "--json") == (0, "[]\n", "")
    assert run("keys", "revoke", "nobody", "--store", store)[0] == 1
    assert not Path(store).exists()


def test_a_key_is_revoked(run: Run, store: str) -> None:
    for name in ("a", "b"):
        run("keys", "create", name, "--store", store)
    assert run("keys", "revoke", "a", "--store", store) == (0, "Revoked: a.\n", "")
    assert [key.name for key in KeyFile(Path(store)).all()] == ["b"]
    code, out, err = run("keys", "revoke", "a", "--store", store)
    assert (code, out, err) == (1, "", "error: there is no key named 'a'\n")
    _, out, err = run("keys", "revoke", "b", "--store", store, "--json")
    assert json.loads(out)["name"] == "b"
    assert "No key is left" in err


def test_keys_are_made_while_a_server_has_the_store(run: Run, store: str) -> None:
    with StoreLock(Path(store)):
        assert run("keys", "create", "a", "--store", store)[0] == 0
        assert run("keys", "revoke", "a", "--store", store)[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["a b"],
        ["-"],
        ["a", "--tenant", "No Tenant"],
        ["a", "--requests-per-minute", "-1"],
        ["a", "--concurrent", "x"],
    ],
)
def test_wrong_usage_makes_no_key(run: Run, store: str, wrong: list[str]) -> None:
    code, out, err = run("keys", "create", *wrong, "--store", store)
    assert (code, out) == (2, "")
    assert err
    assert not Path(store).exists()


def test_a_name_is_given_once(run: Run, store: str) -> None:
    run("keys", "create", "a", "--store", store)
    code, out, err = run("keys", "create", "a", "--store", store)
    assert (code, out) == (2, "")
    assert "there is a key named 'a'" in err


def test_who_publishes_is_told_so(run: Run, store: str) -> None:
    code, _, err = run("keys", "create", "publisher", "--tenant", "public", "--store", store)
    assert code == 0
    assert "published" in err
    assert "published" not in run("keys", "create", "a", "--store", store)[2]


@pytest.mark.parametrize("command", [["list"], ["create", "b"], ["revoke", "a"]])
def test_damaged_keys_are_an_error(run: Run, store: str, command: list[str]) -> None:
    run("keys", "create", "a", "--store", store)
    (Path(store) / FILE).write_text("{}")
    code, out, err = run("keys", *command, "--store", store)
    assert (code, out) == (1, "")
    assert "nobody is let in" in err
    assert (Path(store) / FILE).read_text() == "{}"


def test_what_keys_make_is_their_owners_alone(run: Run, store: str) -> None:
    run("keys", "create", "a", "--store", store)
    for path in (Path(store), *Path(store).iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
