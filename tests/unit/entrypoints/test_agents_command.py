import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.answering_server import server_of
from tests.fakes.blocks import plant_secret
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, tokens

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.domain.block import PartKind
from semantic.entrypoints import server_note
from semantic.entrypoints.server_note import ServerNote

Run = Callable[..., tuple[int, str, str]]
ODD = "a/b 🦜 #1"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store of two agents that share a block."""
    root = tmp_path / "kv"
    plant_secret(root)
    records, blocks = (kind(root, RecordedTelemetry()) for kind in (AgentFiles, BlockFiles))
    assert isinstance(records, AgentFiles)
    assert isinstance(blocks, BlockFiles)
    remember(records, blocks, "alice", (*tokens(256), 1, 2), (*tokens(256), 3))
    remember(records, blocks, ODD, (*tokens(256), 4))
    return str(root)


def files_in(store: str) -> list[Path]:
    return list(Path(store).rglob("*.st"))


def test_agents_are_listed_for_people(run: Run, store: str) -> None:
    code, out, err = run("agents", "list", "--store", store)
    assert (code, err) == (0, "")
    heading, odd, alice = out.splitlines()
    assert heading.split() == ["AGENT", "TOKENS", "BRANCHES", "DURABLE", "LAST", "USED", "MODEL"]
    assert odd.startswith(ODD)
    assert alice.split()[:4] == ["alice", "259", "2", "257"]
    assert "\x1b" not in out


def test_agents_are_listed_for_programs(run: Run, store: str) -> None:
    code, out, _ = run("agents", "list", "--store", store, "--json")
    [odd, alice] = json.loads(out)
    assert (code, odd["name"]) == (0, ODD)
    assert alice["branches"] == [258, 257]
    assert alice["tokens"] == 259
    assert (alice["durable_tokens"], alice["durable_branches"]) == (257, [258, 257])
    assert len(alice["namespace"]) == 64
    assert alice["last_used"] == "1970-01-01T00:00:05Z"


def test_an_empty_store_is_an_empty_list_and_is_not_made(run: Run, tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    code, out, err = run("agents", "list", "--store", none)
    assert (code, out) == (0, "")
    assert none in err
    assert run("agents", "list", "--store", none, "--json") == (0, "[]\n", "")
    assert run("agents", "delete", "x", "--store", none)[0] == 1
    assert not Path(none).exists()


@pytest.mark.parametrize("command", [["list", "--json"], ["show", "x"], ["delete", "x"]])
def test_a_store_that_cannot_be_looked_into_is_no_empty_one(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "kv").write_text("")
    code, out, err = run("agents", *command, "--store", "kv")
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / 'kv'} cannot be read: Not a directory\n"


def test_an_agent_is_shown_with_what_it_takes(run: Run, store: str) -> None:
    code, out, _ = run("agents", "show", ODD, "--store", store)
    assert (code, out.splitlines()[0]) == (0, ODD)
    [shown] = json.loads(run("agents", "show", ODD, "--store", store, "--json")[1])
    assert shown["blocks"] == 2
    assert 0 < shown["bytes_alone"] < shown["bytes"]
    assert shown["durable_tokens"] == shown["tokens"] == 257


@pytest.mark.parametrize("command", ["show", "delete"])
def test_an_unknown_agent_fails_in_one_line(run: Run, store: str, command: str) -> None:
    code, out, err = run("agents", command, "bob", "--store", store)
    assert (code, out) == (1, "")
    assert err == "error: nothing is remembered of an agent named 'bob'\n"
    assert len(files_in(store)) == 4


@pytest.mark.parametrize("command", ["show", "delete"])
def test_a_name_that_cannot_be_one_is_bad_usage(run: Run, store: str, command: str) -> None:
    assert run("agents", command, "a\nb", "--store", store)[0] == 2


def test_an_agent_is_deleted_where_no_server_runs(run: Run, store: str) -> None:
    code, out, err = run("agents", "delete", "alice", "--store", store)
    assert (code, out, err) == (0, "Forgotten: alice (2 blocks removed).\n", "")
    assert len(files_in(store)) == 2
    found = json.loads(run("agents", "list", "--store", store, "--json")[1])
    assert [agent["name"] for agent in found] == [ODD]
    deleted = json.loads(run("agents", "delete", ODD, "--store", store, "--json")[1])
    assert deleted == {"name": ODD, "memories": 1, "blocks": 2}
    assert len(files_in(store)) == 0


def test_all_parts_of_an_agents_blocks_are_shown_and_deleted(run: Run, tmp_path: Path) -> None:
    store = str(tmp_path / "kv")
    plant_secret(tmp_path / "kv")
    records = AgentFiles(tmp_path / "kv", RecordedTelemetry())
    blocks = BlockFiles(tmp_path / "kv", RecordedTelemetry())
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "alice", tokens(257), extras=extras)
    [shown] = json.loads(run("agents", "show", "alice", "--store", store, "--json")[1])
    assert (shown["blocks"], len(files_in(store))) == (2, 6)
    assert shown["bytes"] == sum(file.stat().st_size for file in files_in(store))
    deleted = json.loads(run("agents", "delete", "alice", "--store", store, "--json")[1])
    assert deleted["blocks"] == 2
    assert files_in(store) == []


def test_a_damaged_record_is_reported_and_does_not_hide_the_others(run: Run, store: str) -> None:
    damaged = next((Path(store) / "agents").iterdir())
    damaged.write_bytes(b"damaged")
    code, out, err = run("agents", "list", "--store", store)
    assert (code, len(out.splitlines())) == (0, 2)
    assert "agent_skipped" in err
    assert damaged.exists()


def test_a_server_that_has_the_store_deletes(run: Run, store: str) -> None:
    with server_of(store, 200, {"name": ODD, "memories": 1, "blocks": 7}) as asked:
        code, out, _ = run("agents", "delete", ODD, "--store", store)
    assert (code, out) == (0, f"Forgotten: {ODD} (7 blocks removed).\n")
    [(method, path, authorization)] = asked.requests
    assert method == "DELETE"
    assert path == "/admin/agents?name=a%2Fb+%F0%9F%A6%9C+%231&tenant=default"
    assert authorization == "Bearer a token"
    assert len(files_in(store)) == 4


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "agent_not_found", 1), (409, "agent_busy", 1), (400, None, 2), (500, "x", 1)],
)
def test_a_servers_refusal_is_told_in_its_words(
    run: Run, store: str, status: int, code: str | None, exit_code: int
) -> None:
    with server_of(store, status, {"error": {"message": "not now", "code": code}}):
        assert run("agents", "delete", ODD, "--store", store) == (
            exit_code,
            "",
            "error: not now\n",
        )


def test_an_answer_that_is_not_ours_is_told_as_such(run: Run, store: str) -> None:
    with server_of(store, 502, "<html>"):
        code, _, err = run("agents", "delete", ODD, "--store", store)
    assert code == 1
    assert "502" in err


def test_listing_works_beside_a_server(run: Run, store: str) -> None:
    with StoreLock(Path(store)):
        assert len(json.loads(run("agents", "list", "--store", store, "--json")[1])) == 2
        assert run("agents", "show", "alice", "--store", store)[0] == 0


def test_a_server_that_is_not_ready_is_told_as_such(run: Run, store: str) -> None:
    with StoreLock(Path(store)):
        code, _, err = run("agents", "delete", "alice", "--store", store)
    assert code == 1
    assert "not ready" in err


def test_a_server_that_starts_beside_the_note_of_a_killed_one_is_told_as_such(
    run: Run, store: str
) -> None:
    server_note.write(Path(store), ServerNote("http://127.0.0.1:1", "old"))
    with StoreLock(Path(store)):
        code, _, err = run("agents", "delete", "alice", "--store", store)
    assert code == 1
    assert "not ready" in err
    assert "--url" not in err


def test_the_note_of_a_server_that_is_gone_is_ignored(run: Run, store: str) -> None:
    server_note.write(Path(store), ServerNote("http://127.0.0.1:1", "old"))
    assert run("agents", "delete", "alice", "--store", store)[0] == 0


class Terminal(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "left"), [("", 4), ("n\n", 4), ("y\n", 2)])
def test_a_terminal_is_asked_first(
    run: Run, store: str, monkeypatch: pytest.MonkeyPatch, typed: str, left: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    code, _, err = run("agents", "delete", "alice", "--store", store)
    assert code == (0 if left == 2 else 1)
    assert "Forget 'alice' for good?" in err
    assert len(files_in(store)) == left


def test_a_terminal_need_not_be_asked(
    run: Run, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    assert run("agents", "delete", "alice", "--store", store, "--yes")[0] == 0
