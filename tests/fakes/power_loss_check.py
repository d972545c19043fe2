"""Whether what a power loss left is a store that can be trusted, by the store's own reading code.

Held against what had been acknowledged. A state is judged piece by piece, each piece's verdict
being remembered; or it is laid out on a real disk, and the whole store opened on it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.fakes.blocks import MINE, NAMESPACE, SECRET, folder_of, make_part, plant_secret
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.power_loss import LOG, Bytes, PowerLoss, State
from tests.fakes.power_loss_workloads import (
    FIRST_NAMESPACE,
    ROOT,
    Deleting,
    Forgetting,
    Put,
    Putting,
    Saving,
)
from tests.fakes.recorded_disk import Op
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage import index_schema, secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_index import BlockIndex
from semantic.adapters.outbound.storage.block_listing import BlockListing, part_of
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application.agent_inspection import durable_tokens
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, PartOutline, StoredPart
from semantic.domain.block_hash import root_key, token_bytes
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import AgentKey, BlockKey, Namespace
from semantic.domain.prefix_index import PrefixIndex

_INDEX = f"{ROOT}/{index_schema.FILE}"
_BLOCKS = f"{ROOT}/blk/"
_AGENTS = f"{ROOT}/agents/"
_SECRET = f"{ROOT}/{secret_file.FILE}"


@dataclass
class Expected:
    """What had been acknowledged at a moment, and what may be there besides."""

    parts: dict[PartId, StoredPart] = field(default_factory=dict)
    maybe: set[PartId] = field(default_factory=set)
    ever: dict[PartId, StoredPart] = field(default_factory=dict)
    records: dict[AgentId, list[AgentRecord | None]] = field(default_factory=dict)
    forgetting: set[AgentKey] = field(default_factory=set)

    def hear(self, mark: object) -> None:
        """Something was begun or acknowledged."""
        match mark:
            case Putting(parts):
                self.ever.update((part.header.id, part) for part in parts)
                self.maybe.update({part.header.id for part in parts} - self.parts.keys())
            case Put(parts):
                self.parts.update((part.header.id, part) for part in parts)
                self.maybe -= self.parts.keys()
            case Deleting(names, done):
                for name in names:
                    self.parts.pop(name, None)
                (self.maybe.difference_update if done else self.maybe.update)(names)
            case Forgetting(agent):
                self.forgetting.add(agent.key)
            case Saving(records, done):
                for agent, record in records.items():
                    before = [] if done else self.records.get(agent, [None])
                    self.records[agent] = [*before, record]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What an index knows."""

    outlines: dict[PartId, PartOutline]
    tokens: dict[BlockKey, bytes]

    def covered(self, record: AgentRecord) -> bool:
        """Whether blocks are known for all that an agent remembers."""
        index = PrefixIndex(root_key(NAMESPACE, SECRET), BLOCK_SIZE, fetch=lambda _: self.tokens)
        index.learn(NAMESPACE, self.outlines.values())
        return all(
            sum(use.length for use in index.match(branch.ids, MINE)) == len(branch.ids)
            for branch in record.branches
        )


class Judge:
    """Judges states of one trace; `scratch` is a folder to be made."""

    def __init__(self, trace: Sequence[Op], scratch: Path) -> None:
        self.loss = PowerLoss(trace)
        scratch.mkdir()
        plant_secret(scratch / ROOT)
        self._scratch = scratch
        self._expected: dict[int, Expected] = {}
        self._parts: dict[tuple[str, Bytes], StoredPart | None] = {}
        self._records: dict[tuple[str, Bytes], AgentRecord | None] = {}
        self._rows: dict[tuple[Bytes, bytes | None], Rows | None] = {}
        self._covered: dict[tuple[Rows, int], bool] = {}

    def expected(self, cut: int) -> Expected:
        """What had been acknowledged when so many operations were done."""
        if cut not in self._expected:
            expected = self._expected[cut] = Expected()
            for mark in self.loss.marks(cut):
                expected.hear(mark)
        return self._expected[cut]

    def problems(self, state: State) -> Iterator[str]:
        """What is wrong, piece by piece."""
        expected = self.expected(state.cut)
        secret = state.files.get(_SECRET)
        kept = any(_is_part(path) or path.startswith(_AGENTS) for path in state.files)
        # A torn one refuses to open, and so does none beside what was kept under it.
        if self.loss.bytes_of(secret) != SECRET.value if secret else kept:
            yield "the secret is lost"
        found = {
            path: self._part(path, state.files[path]) for path in state.files if _is_part(path)
        }
        whole = {
            part.header.id: part
            for part in found.values()
            if part and part.header.namespace == NAMESPACE
        }
        rows = self._known(state)
        if rows is None:  # it is made anew, from the files
            rows = _of(whole.values())
        else:
            yield from _holes(rows)
        strangers = rows.outlines.keys() - expected.parts.keys() - expected.maybe
        yield from (f"known though deleted: {name}" for name in strangers)
        yield from (f"not whole: {path}" for path, part in found.items() if part is None)
        yield from (
            f"not what was written: {name}"
            for name, part in whole.items()
            if part != expected.ever.get(name)
        )
        yield from (f"lost: {name}" for name in expected.parts if name not in whole)
        yield from (
            f"not known: {name}"
            for name, part in expected.parts.items()
            if name not in rows.outlines
            or rows.tokens.get(name.key) != token_bytes(part.header.tokens)
        )
        yield from (f"dangling: {name}" for name in rows.outlines if name not in whole)
        yield from self._wrong_records(state, expected, rows)

    def _wrong_records(self, state: State, expected: Expected, rows: Rows) -> Iterator[str]:
        agents = {SECRET.agent_name(agent.key): agent for agent in expected.records}
        seen = set()
        for path in state.files:
            if path.startswith(_AGENTS):
                agent = agents[Path(path).stem]
                record = self._record(path, state.files[path], agent)
                seen.add(agent)
                if record is None or record not in expected.records[agent]:
                    yield f"a record that is not what was saved: {path}"
                elif agent.key not in expected.forgetting and not self._covers(rows, record):
                    yield f"a record without its blocks: {path}"
        for agent, records in expected.records.items():
            if agent not in seen and None not in records:
                yield f"a record is lost: {agent.name}"

    def _covers(self, rows: Rows, record: AgentRecord) -> bool:
        key = (rows, id(record))  # both are held here for good
        if key not in self._covered:
            self._covered[key] = rows.covered(record)
        return self._covered[key]

    def _part(self, path: str, content: Bytes) -> StoredPart | None:
        key = (path, content)
        if key not in self._parts:
            name = part_of(Path(path).name)
            assert name is not None, path
            with _laid(self._scratch / path, self.loss.bytes_of(content)):
                try:
                    self._parts[key] = self._block_files.get(_namespace(path), name)
                except (CacheCorruptionError, IncompatibleCacheError):
                    self._parts[key] = None
        return self._parts[key]

    def _record(self, path: str, content: Bytes, agent: AgentId) -> AgentRecord | None:
        key = (path, content)
        if key not in self._records:
            with _laid(self._scratch / path, self.loss.bytes_of(content)):
                self._records[key] = self._agent_files.load(agent)
        return self._records[key]

    def _known(self, state: State) -> Rows | None:
        """The rows of the state's index; None if there is none, or none that can be used."""
        content = state.files.get(_INDEX)
        if content is None:
            return None
        log = self._log(state, content)
        key = (content, log)
        if key not in self._rows:
            path = self._scratch / "index" / str(len(self._rows)) / index_schema.FILE
            path.parent.mkdir(parents=True)
            self._lay_index(path, content, log)
            self._rows[key] = _read(path)
        return self._rows[key]

    def _lay_index(self, path: Path, content: Bytes, log: bytes | None) -> None:
        path.write_bytes(self.loss.bytes_of(content))
        if log is not None:
            path.with_name(path.name + LOG).write_bytes(log)

    def _log(self, state: State, content: Bytes) -> bytes | None:
        """The log beside a database: its own as of its last commit, or another's as it was last."""
        log, own = state.files.get(_INDEX + LOG), self.loss.committed(content)
        if log is None:
            return None
        if own is not None and own.log_inode == log.inode:
            return own.log
        return self.loss.last_log(log.inode, state.cut)

    def lay_out(self, state: State, folder: Path) -> None:
        """Make a state on a real disk."""
        for path in state.folders:
            (folder / path).mkdir(mode=0o700)
        for path, content in state.files.items():
            if content.inode not in self.loss.logs:
                (folder / path).touch(mode=0o600)
                (folder / path).write_bytes(self.loss.bytes_of(content))
        if index := state.files.get(_INDEX):
            self._lay_index(folder / _INDEX, index, self._log(state, index))

    def problems_when_opened(self, state: State, folder: Path) -> Iterator[str]:
        """What is wrong once the whole store has been opened on a real disk; `folder` is empty."""
        self.lay_out(state, folder)
        expected, telemetry = self.expected(state.cut), RecordedTelemetry()
        blocks = IndexedBlocks(folder / ROOT, telemetry, FixedClock())
        agents = AgentFiles(folder / ROOT, telemetry)
        try:
            for _ in blocks.sweep():
                pass
            yield from self._wrong_parts(blocks, folder / ROOT, expected)
            for agent, records in expected.records.items():
                if (found := agents.load(agent)) not in records:
                    yield f"opened, {agent.name}'s record is {found}"
                if found and agent.key not in expected.forgetting and not _durable(found, blocks):
                    yield f"opened, not all of {agent.name} is durable"
            yield from (f"opened, {event[1]}" for event in telemetry.events if event[0] != "info")
            new = make_part((7, 7, 7))
            blocks.put(new)
            if blocks.get(NAMESPACE, new.header.id) != new:
                yield "it keeps nothing new"
        finally:
            blocks.close()

    def _wrong_parts(self, blocks: IndexedBlocks, root: Path, expected: Expected) -> Iterator[str]:
        known = {outline.id for outline in blocks.outlines(NAMESPACE)}
        yield from (f"opened, not known: {name}" for name in expected.parts.keys() - known)
        listing = {
            header.id for header in BlockListing(root, RecordedTelemetry()).headers(NAMESPACE)
        }
        yield from (f"opened, swept and there: {name}" for name in listing - known)
        for name in known:
            if blocks.get(NAMESPACE, name) != expected.ever[name]:
                yield f"opened, not what was written: {name}"
            if token_bytes(expected.ever[name].header.tokens) != blocks.tokens(
                NAMESPACE, (name.key,)
            ).get(name.key):
                yield f"opened, other tokens: {name}"

    @cached_property
    def _block_files(self) -> BlockFiles:
        return BlockFiles(self._scratch / ROOT, RecordedTelemetry())

    @cached_property
    def _agent_files(self) -> AgentFiles:
        return AgentFiles(self._scratch / ROOT, RecordedTelemetry())


def _read(path: Path) -> Rows | None:
    """What an index knows: nothing if its damage shows only now; None if it cannot be used."""
    try:
        index = BlockIndex(path)
    except CacheCorruptionError:
        return None
    try:
        outlines = {one.id: one for one in index.outlines(NAMESPACE)}
        return Rows(outlines, dict(index.tokens(NAMESPACE, [name.key for name in outlines])))
    except CachePersistenceError:
        return Rows({}, {})
    finally:
        index.close()


def _of(parts: Iterable[StoredPart]) -> Rows:
    """The rows of an index made from files."""
    headers = [part.header for part in parts]
    return Rows(
        {header.id: header.outline for header in headers},
        {header.key: token_bytes(header.tokens) for header in headers},
    )


def _holes(rows: Rows) -> Iterator[str]:
    """What follows a block that is not there. In an index made from files it may: see `match`."""
    blocks = {name.key for name in rows.outlines if name.kind.begins}
    for outline in rows.outlines.values():
        if outline.start and outline.parent not in blocks:
            yield f"a hole before {outline.id}"


def _durable(record: AgentRecord, blocks: IndexedBlocks) -> bool:
    """Whether all is durable that is remembered: no record is saved before its blocks."""
    return all(
        durable_tokens(branch.ids, record, SECRET, blocks) == len(branch.ids)
        for branch in record.branches
    )


@contextmanager
def _laid(path: Path, data: bytes) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # what was damaged has been set aside


def _namespace(path: str) -> Namespace:
    folder = path.removeprefix(_BLOCKS).split("/")[0]
    return NAMESPACE if folder == folder_of(NAMESPACE) else FIRST_NAMESPACE


def _is_part(path: str) -> bool:
    return path.startswith(_BLOCKS)
