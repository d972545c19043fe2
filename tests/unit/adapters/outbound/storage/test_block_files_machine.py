"""Whatever is done to the disk store, it answers like a dict, or finds the damage."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.fakes.blocks import (
    NAMESPACE,
    OTHER_NAMESPACE,
    make_part,
    path_in,
    plant_secret,
    without_tensors,
)
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage import durable_file
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import Namespace
from semantic.ports.block_store import BlockStore

Place = tuple[Namespace, PartId]


def part_of(place: tuple[Namespace, tuple[int, int], PartKind], seed: int = 0) -> StoredPart:
    """A part of some block; without tensors if `seed` is 0."""
    namespace, tokens, kind = place
    part = make_part(tokens, namespace=namespace, kind=kind, seed=seed)
    return part if seed else without_tensors(part)


parts = st.tuples(
    st.sampled_from([NAMESPACE, OTHER_NAMESPACE]),
    st.tuples(st.integers(0, 2), st.integers(0, 1)),
    st.sampled_from(PartKind),
)
places = parts.map(part_of).map(lambda part: (part.header.namespace, part.header.id))


class BlockFilesMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self._patch = pytest.MonkeyPatch()
        # Thousands of syncs would take minutes; their order is tested elsewhere.
        self._patch.setattr(durable_file, "sync", lambda _: None)
        self._root = Path(tempfile.mkdtemp())
        plant_secret(self._root)
        self._model: dict[Place, StoredPart] = {}
        self._damaged: set[Place] = set()
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self._store = self.make()

    def make(self) -> BlockStore:
        return BlockFiles(self._root, RecordedTelemetry())

    @rule(part=st.builds(part_of, parts, st.integers(0, 9)))
    def put(self, part: StoredPart) -> None:
        place = (part.header.namespace, part.header.id)
        self._store.put(part)
        if place in self._damaged:
            self._damaged.remove(place)
            self._model[place] = part
        self._model.setdefault(place, part)

    @rule(place=places)
    def get(self, place: Place) -> None:
        if place in self._damaged:
            with pytest.raises((CacheCorruptionError, IncompatibleCacheError)):
                self._store.get(*place)
            self._damaged.remove(place)
            del self._model[place]
        assert self._store.get(*place) == self._model.get(place)

    @rule(place=places)
    def delete(self, place: Place) -> None:
        self._store.delete(*place)
        self._model.pop(place, None)
        self._damaged.discard(place)

    @rule(data=st.data(), bit=st.integers(0, 7))
    def damage(self, data: st.DataObject, bit: int) -> None:
        if not (sound := self._sound()):
            return
        place = data.draw(st.sampled_from(sound))
        path = self._path(place)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << bit
        path.write_bytes(content)
        self._damaged.add(place)

    @rule(data=st.data())
    def confuse(self, data: st.DataObject) -> None:
        """One sound file takes the place of another, of whatever block and kind."""
        if len(sound := self._sound()) > 1:
            source, target = data.draw(st.permutations(sound))[:2]
            shutil.copyfile(self._path(source), self._path(target))
            self._damaged.add(target)

    @rule(owner=st.sampled_from(["block", "agent"]))
    def leave_unfinished_file(self, owner: str) -> None:
        (self._root / "tmp" / f"{owner}-stale").touch()

    @invariant()
    def lists_what_it_holds(self) -> None:
        for namespace in (NAMESPACE, OTHER_NAMESPACE):
            held = {part for owner, part in self._model if owner == namespace}
            damaged = {part for owner, part in self._damaged if owner == namespace}
            listed = {header.id: header for header in self._store.headers(namespace)}
            assert held - damaged <= set(listed) <= held
            assert all(listed[part] == self._model[namespace, part].header for part in listed)
            assert all(self._store.exists(namespace, part) for part in held)
            assert all(self._store.nbytes(namespace, part) for part in held)

    def teardown(self) -> None:
        self._patch.undo()
        shutil.rmtree(self._root)

    def _sound(self) -> list[Place]:
        return [place for place in self._model if place not in self._damaged]

    def _path(self, place: Place) -> Path:
        namespace, (key, kind) = place
        return path_in(self._root, namespace, PartId(key, kind))


class IndexedBlocksMachine(BlockFilesMachine):
    """The same with an index, which is swept now and then, and lost."""

    _indexed: IndexedBlocks | None = None

    def make(self) -> BlockStore:
        if self._indexed is not None:
            self._indexed.close()
        self._indexed = IndexedBlocks(self._root, RecordedTelemetry(), FixedClock())
        return self._indexed

    @rule()
    def sweep(self) -> None:
        assert self._indexed is not None
        assert [part for step in self._indexed.sweep() for part in step] == []

    @rule()
    def lose_the_index(self) -> None:
        if not self._damaged:  # what is damaged is not found again
            assert self._indexed is not None
            self._indexed.close()
            (self._root / "index.db").unlink()
            self._indexed = None
            self.reopen()

    def teardown(self) -> None:
        if self._indexed is not None:
            self._indexed.close()
        super().teardown()


TestIndexedBlocksMachine = IndexedBlocksMachine.TestCase
TestIndexedBlocksMachine.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True
)
TestBlockFilesMachine = BlockFilesMachine.TestCase
TestBlockFilesMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True
)
