"""The main job: a server is killed, started again, and its agents go on where they were."""

import shutil
import time
from pathlib import Path

import httpx
import pytest
from bench.conversations import SCRIPTS, Conversation, Turn
from bench.server_process import ServerProcess
from tests.e2e.conftest import StartServer, connect

from semantic.entrypoints import server_note

HISTORY_TOKENS = 540
"""More than two blocks, and a tail."""


def opening() -> str:
    return f"{SCRIPTS[0].page(HISTORY_TOKENS)}\n\n{SCRIPTS[0].first}"


def first_turn(server: ServerProcess) -> tuple[Conversation, Turn]:
    conversation = Conversation(connect(server), "alice")
    return conversation, conversation.ask(opening(), max_tokens=6)


def second_turn(server: ServerProcess, conversation: Conversation) -> Turn:
    conversation.client = connect(server)
    return conversation.ask(SCRIPTS[0].then[0], max_tokens=16)


def files(store: Path) -> list[Path]:
    return sorted((store / "blk").rglob("*.st"))


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, settings_of_servers: dict[str, str]
) -> tuple[Path, Turn, Turn, Conversation]:
    """A store as it is after the first turn; both turns of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    store = folder / "store"
    server = ServerProcess(store, log=folder / "server.log", settings=settings_of_servers)
    with server:
        conversation, first = first_turn(server)
        after_first_turn = folder / "after-first-turn"
        shutil.copytree(store, after_first_turn)
        history = list(conversation.messages)
        second = second_turn(server, conversation)
        assert server.stop() == 0
    conversation.messages = history
    return after_first_turn, first, second, conversation


def resumed(server: ServerProcess, uninterrupted: tuple[Path, Turn, Turn, Conversation]) -> Turn:
    history = uninterrupted[3].messages
    return second_turn(server, Conversation(connect(server), "alice", list(history)))


def test_after_sigkill_the_agent_goes_on_with_the_same_words(
    tmp_path: Path,
    start_server: StartServer,
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
) -> None:
    _, first_whole, second_whole, _ = uninterrupted
    server = start_server(tmp_path / "store")
    conversation, first = first_turn(server)
    server.kill()
    second = second_turn(start_server(tmp_path / "store"), conversation)

    assert (first.text, second.text) == (first_whole.text, second_whole.text)
    assert first.cached_tokens == 0
    # Everything that was processed before the kill: the prompt and the whole reply.
    assert second.cached_tokens == first.prompt_tokens + 6
    assert second.cached_tokens == second_whole.cached_tokens
    assert second.ttft_s < first.ttft_s


def durable_tokens(server: ServerProcess) -> int:
    """What would survive of the only agent, as the server says."""
    note = server_note.read(server.store)
    assert note is not None
    found = httpx.get(
        f"{note.url}/admin/agents", headers={"Authorization": f"Bearer {note.token}"}
    ).json()["data"]
    return sum(agent["durable_tokens"] for agent in found)


@pytest.mark.parametrize("awaits", ["durable_tokens", "SIGTERM"])
def test_relaxed_what_is_called_durable_and_all_at_a_regular_end_is_remembered(
    tmp_path: Path,
    settings_of_servers: dict[str, str],
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
    awaits: str,
) -> None:
    relaxed = settings_of_servers | {"SEMANTIC_STORE__DURABILITY": "relaxed"}
    server = ServerProcess(tmp_path / "store", log=tmp_path / "log", settings=relaxed)
    with server:
        conversation, first = first_turn(server)
        said = first.prompt_tokens + 6
        if awaits == "SIGTERM":
            assert server.stop() == 0
        else:
            begin = time.monotonic()
            while (durable := durable_tokens(server)) < said:
                assert durable == 0  # the record comes after all blocks
                assert time.monotonic() < begin + 30
            assert durable == said
            server.kill()
    with server:
        second = second_turn(server, conversation)
    assert second.cached_tokens == said
    assert second.text == uninterrupted[2].text


def test_blocks_hold_256_tokens_and_a_tail_the_rest(
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
) -> None:
    store, first, _, _ = uninterrupted
    total = first.prompt_tokens + 6
    kinds = [path.suffixes[0] for path in files(store)]
    assert kinds.count(".full") == total // 256
    assert kinds.count(".tail") == 1


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_file_costs_a_recompute_and_no_wrong_word(
    tmp_path: Path,
    start_server: StartServer,
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
    which: int,
) -> None:
    saved, _, second_whole, _ = uninterrupted
    store = tmp_path / "store"
    shutil.copytree(saved, store)
    path = files(store)[which]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)

    server = start_server(store)
    second = resumed(server, uninterrupted)
    assert second.text == second_whole.text
    assert second.cached_tokens < second_whole.cached_tokens
    assert "block_unusable" in (tmp_path / "server.log").read_text()


def test_foreign_and_mangled_files_are_misses(
    tmp_path: Path,
    start_server: StartServer,
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
) -> None:
    saved, _, second_whole, _ = uninterrupted
    store = tmp_path / "store"
    shutil.copytree(saved, store)
    first_file, second_file, third_file = files(store)
    shutil.copyfile(third_file, first_file)
    second_file.write_bytes(b"not a block")
    (second_file.parent / "stray.txt").write_text("stray")
    for record in (store / "agents").iterdir():
        record.write_text("{}")

    second = resumed(start_server(store), uninterrupted)
    assert second.text == second_whole.text


def test_without_the_store_the_answer_is_the_same(
    tmp_path: Path,
    start_server: StartServer,
    uninterrupted: tuple[Path, Turn, Turn, Conversation],
) -> None:
    second = resumed(start_server(tmp_path / "empty"), uninterrupted)
    assert second.cached_tokens == 0
    assert second.text == uninterrupted[2].text
