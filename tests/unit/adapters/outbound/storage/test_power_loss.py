"""Power loss at any moment of a store's life; `make soak` tries ten times as many states."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from bench import power_loss
from tests.fakes.power_loss_check import Judge
from tests.fakes.power_loss_workloads import (
    Putting,
    Recording,
    Saving,
    recording_of_turns,
)
from tests.fakes.recorded_disk import Committed, Marked, Named, Op, Synced, without

from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application.block_writer import BlockWriter, Write
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, StoredPart
from semantic.domain.ids import BlockKey, Namespace

STATES = 10_000
OPENED = 300
TRIES = 40
"""States after each operation in which an error has to show."""

SITES = {
    # A file's bytes, before it gets its name.
    "write_files < StoreFolder._staged < StoreFolder.write_new < BlockFiles.put [*/*/tmp/*]",
    "write_files < StoreFolder._staged < StoreFolder.replace < AgentFiles.save_all [*/*/tmp/*]",
    "move_into_place < rebuild [*/*/index.db]",
    "write_file < _make [*/*/*]",
    # The names of files, before anybody is told.
    "sync_directories < StoreFolder.write_new < BlockFiles.put [*/*/blk/*/*]",
    "sync_directories < StoreFolder.replace < AgentFiles.save_all [*/*/agents]",
    "sync_directories < sync_directory < AgentFiles.delete [*/*/agents]",
    "sync_directories < sync_directory < move_into_place < rebuild [*/*]",
    # The names that a killed process gave.
    "sync_directories < sync_directory < BlockFiles.put [*/*/blk/*/*]",
    # An old index is gone before its log, without which it would lack rows.
    "sync_directories < sync_directory < remove [*/*]",
    # The log of an old index is gone before the new one has its name.
    "sync_directories < sync_directory < rebuild [*/*]",
    # The folders that lead there.
    "sync_directories < make_root < StoreLock.acquire [.]",
    "sync_directories < make_root < StoreLock.acquire [*]",
    "sync_directories < StoreFolder.make_directories < BlockFiles.__init__ [*/*]",
    "sync_directories < StoreFolder.make_directories < AgentFiles.__init__ [*/*]",
    "sync_directories < StoreFolder.make_directories < BlockFiles.put [*/*/blk]",
    "sync_directories < StoreFolder.make_directories < BlockFiles.put [*/*/blk/*]",
}
"""Every sync that the store makes: who asks for it, and of what, from the parent of its root on."""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with power_loss.scratch() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def recorded(scratch: Path) -> list[Recording]:
    return power_loss.recorded(scratch)


@pytest.fixture
def fresh() -> Iterator[Path]:
    with power_loss.scratch() as folder:
        yield Path(folder)


def first_problem(traces: dict[str, list[Op]], folder: Path) -> str | None:
    """What is found wrong first; the shortest way to it is not looked for."""
    for name, trace in traces.items():
        judge = Judge(trace, folder / name)
        for state in judge.loss.states(TRIES * len(trace)):
            for problem in judge.problems(state):
                return problem
    return None


def test_no_state_is_bad(recorded: list[Recording], scratch: Path) -> None:
    tried = power_loss.run(recorded, scratch, STATES, OPENED)
    assert (tried.states, tried.opened, tried.bad) == (STATES, OPENED, [])


def test_every_sync_of_the_store_is_tried(recorded: list[Recording]) -> None:
    assert {
        op.site for recording in recorded for op in recording.trace if isinstance(op, Synced)
    } == SITES


@pytest.mark.parametrize("site", sorted(SITES))
def test_without_any_one_sync_states_are_bad(
    recorded: list[Recording], fresh: Path, site: str
) -> None:
    traces = {one.name: without(one.trace, site) for one in recorded}
    changed = {
        one.name: traces[one.name] for one in recorded if len(traces[one.name]) < len(one.trace)
    }
    assert changed
    assert first_problem(changed, fresh) is not None


def test_what_waits_together_is_committed_together(recorded: list[Recording]) -> None:
    """Four blocks, one of which replaces another, and the records of two agents."""
    (trace,) = [one.trace for one in recorded if one.name == "turns"]
    said = [(op.what, position) for position, op in enumerate(trace) if isinstance(op, Marked)]
    (begin,) = [at for what, at in said if isinstance(what, Putting) and len(what.parts) == 4]
    end = max(at for what, at in said if isinstance(what, Saving) and len(what.records) == 2)
    done = trace[begin:end]
    # The blocks are known with one commit, and with another what was replaced is not.
    assert sum(isinstance(op, Committed) for op in done) == 2
    assert sum(isinstance(op, Synced) and op.site.endswith("/agents]") for op in done) == 1


def renamed_before_synced(trace: tuple[Op, ...]) -> list[Op]:
    """The trace of code that names each file first, and then syncs it, and then goes on."""
    done = list(trace)
    for op in trace:
        if isinstance(op, Synced) and "write_files" in op.site:
            named = max(
                position
                for position, other in enumerate(done)
                if isinstance(other, Named) and any(i == op.inode for _, i in other.changes)
            )
            done.insert(named, done.pop(done.index(op)))
    return done


def test_files_named_before_they_are_synced_are_bad(recorded: list[Recording], fresh: Path) -> None:
    traces = {one.name: renamed_before_synced(one.trace) for one in recorded}
    assert any(traces[one.name] != list(one.trace) for one in recorded)
    assert first_problem(traces, fresh) is not None


def index_before_files(blocks: IndexedBlocks, *parts: StoredPart) -> None:
    blocks._know([part.header for part in parts], ())
    blocks._files.put(*parts)


def files_before_index(blocks: IndexedBlocks, namespace: Namespace, *parts: PartId) -> None:
    for part in parts:
        blocks._files.delete(namespace, part)
    blocks.index.remove(namespace, parts)


def records_before_blocks(writes: WriteBehind, first: Write) -> None:
    waiting, saves = writes._together(first)
    writes._save(saves)
    writes._write(waiting)


_write = BlockWriter.write


def replaced_blocks_first(
    writer: BlockWriter, writes: Sequence[Write], awaited: frozenset[BlockKey]
) -> None:
    writer._delete_replaced(writes)
    _write(writer, writes, awaited)


@pytest.mark.parametrize(
    ("owner", "name", "reordered"),
    [
        (IndexedBlocks, "put", index_before_files),
        (IndexedBlocks, "delete", files_before_index),
        (WriteBehind, "_commit", records_before_blocks),
        (BlockWriter, "write", replaced_blocks_first),
    ],
    ids=[
        "the index before files",
        "deleted files before the index",
        "records before blocks",
        "replaced blocks before what replaces them",
    ],
)
def test_any_other_order_is_bad(
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type[object],
    name: str,
    reordered: Callable[..., None],
) -> None:
    monkeypatch.setattr(owner, name, reordered)
    trace = list(recording_of_turns(fresh).trace)
    assert first_problem({"judged": trace}, fresh) is not None
