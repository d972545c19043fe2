"""Whatever is done to the disk store, it answers like a dict, or finds the damage."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_block
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage import durable_file
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.domain.block import BlockKind, StoredBlock
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import BlockKey, Namespace

Place = tuple[Namespace, BlockKey]

tokens = st.tuples(st.integers(0, 3), st.integers(0, 2))
namespaces = st.sampled_from([NAMESPACE, OTHER_NAMESPACE])


class BlockFilesMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self._patch = pytest.MonkeyPatch()
        # Thousands of syncs would take minutes; their order is tested elsewhere.
        self._patch.setattr(durable_file, "sync", lambda _: None)
        self._root = Path(tempfile.mkdtemp())
        self._model: dict[Place, StoredBlock] = {}
        self._damaged: set[Place] = set()
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self._store = BlockFiles(self._root, RecordedTelemetry())

    @rule(ids=tokens, namespace=namespaces, seed=st.integers(0, 9))
    def put(self, ids: tuple[int, int], namespace: Namespace, seed: int) -> None:
        kind = BlockKind.FULL if ids[1] else BlockKind.TAIL
        block = make_block(ids, namespace=namespace, kind=kind, seed=seed)
        place = (namespace, block.header.key)
        self._store.put(block)
        if place in self._damaged:
            self._damaged.remove(place)
            self._model[place] = block
        self._model.setdefault(place, block)

    @rule(ids=tokens, namespace=namespaces)
    def get(self, ids: tuple[int, int], namespace: Namespace) -> None:
        place = (namespace, make_block(ids, namespace=namespace).header.key)
        if place in self._damaged:
            with pytest.raises((CacheCorruptionError, IncompatibleCacheError)):
                self._store.get(*place)
            self._damaged.remove(place)
            del self._model[place]
        assert self._store.get(*place) == self._model.get(place)

    @rule(ids=tokens, namespace=namespaces)
    def delete(self, ids: tuple[int, int], namespace: Namespace) -> None:
        place = (namespace, make_block(ids, namespace=namespace).header.key)
        self._store.delete(*place)
        self._model.pop(place, None)
        self._damaged.discard(place)

    @rule(data=st.data(), bit=st.integers(0, 7))
    def damage(self, data: st.DataObject, bit: int) -> None:
        sound = [place for place in self._model if place not in self._damaged]
        if not sound:
            return
        namespace, key = data.draw(st.sampled_from(sound))
        (path,) = (self._root / "blk" / namespace[:12] / key[:2]).glob(f"{key}.*")
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << bit
        path.write_bytes(content)
        self._damaged.add((namespace, key))

    @rule(owner=st.sampled_from(["block", "agent"]))
    def leave_unfinished_file(self, owner: str) -> None:
        (self._root / "tmp" / f"{owner}-stale").touch()

    @invariant()
    def lists_what_it_holds(self) -> None:
        for namespace in (NAMESPACE, OTHER_NAMESPACE):
            held = {key for owner, key in self._model if owner == namespace}
            damaged = {key for owner, key in self._damaged if owner == namespace}
            listed = {header.key: header for header in self._store.headers(namespace)}
            assert held - damaged <= set(listed) <= held
            assert all(listed[key] == self._model[namespace, key].header for key in listed)
            assert all(self._store.exists(namespace, key) for key in held)

    def teardown(self) -> None:
        self._patch.undo()
        shutil.rmtree(self._root)


TestBlockFilesMachine = BlockFilesMachine.TestCase
TestBlockFilesMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True
)
