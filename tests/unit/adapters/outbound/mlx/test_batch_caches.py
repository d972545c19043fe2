"""Every element that is cut out of a batch is told apart: it says whose it is, and which position.

The batches are mlx-lm's own; sequences join and leave them, are cut up and restored at random.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

from semantic.adapters.outbound.mlx.batch_caches import Cache, SequenceCaches, leaves
from semantic.adapters.outbound.mlx.kv_part import KVPart
from semantic.adapters.outbound.mlx.restored_caches import Piece, restore
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import (
    AttentionLayer,
    ModelCacheSpec,
    RecurrentLayer,
    StateArray,
)
from semantic.domain.errors import EngineError

HEADS, KEY_DIM, VALUE_DIM = 2, 3, 1
SHORT = 6
_EACH = 10_000
"""Positions of the n-th sequence begin at n times this; float32 holds them exactly."""


def attention(window: int | None) -> AttentionLayer:
    return AttentionLayer(HEADS, KEY_DIM, VALUE_DIM, "F32", window=window)


def fresh(window: int) -> list[Cache]:
    """A layer that keeps two caches, a recurrent one, and three more."""
    both = CacheList(KVCache(), RotatingKVCache(window))  # type: ignore[no-untyped-call]
    single = [RotatingKVCache(SHORT), RotatingKVCache(window), KVCache()]  # type: ignore[no-untyped-call]
    return [both, ArraysCache(1), *single]


def spec_of(window: int) -> ModelCacheSpec:
    state = RecurrentLayer((StateArray((1, 2), "F32"),))
    windows = (None, window, SHORT, window, None)
    first, second, *others = (attention(one) for one in windows)
    return ModelCacheSpec((first, second, state, *others))


@dataclass
class Sequence:
    number: int
    computed: int = 0
    restored: bool = False
    """Whether nothing was computed since: then windows hold one token less."""


def feed(caches: list[Cache], sequences: list[Sequence], count: int) -> None:
    """What a model does in one step; values are the keys, negative."""
    starts = [one.number * _EACH + one.computed for one in sequences]
    ramp = mx.array(starts)[:, None] + mx.arange(count)
    ramp = mx.broadcast_to(
        ramp[:, None, :, None].astype(mx.float32), (len(starts), HEADS, count, 1)
    )
    for leaf in leaves(caches):
        if isinstance(leaf, ArraysCache):
            leaf[0] = mx.repeat(ramp[:, 0, -1] + 1, 2, axis=1)
            leaf.advance(count)  # type: ignore[no-untyped-call]
        else:
            leaf.update_and_fetch(mx.repeat(ramp, KEY_DIM, axis=3), -ramp)
    mx.eval([leaf.state for leaf in leaves(caches)])
    for one in sequences:
        one.computed += count
        one.restored = False


def check(part: KVPart, sequence: Sequence, end: int, spec: ModelCacheSpec) -> None:
    """The part holds what that sequence's last positions before `end` were given."""
    for group, (layer, places) in enumerate(spec.groups(part.kind)):
        if isinstance(layer, RecurrentLayer):
            state = np.array(part.arrays[f"state.{group}.0"])
            assert state.shape == (len(places), 1, 2)
            assert (state == sequence.number * _EACH + end).all()
            continue
        kept = layer.kept_of(part.num_tokens)
        expected = sequence.number * _EACH + np.arange(end - kept, end)
        for name, dim, sign in (("keys", KEY_DIM, 1), ("values", VALUE_DIM, -1)):
            found = np.array(part.arrays[f"{name}.{group}"])
            assert found.shape == (len(places), 1, HEADS, kept, dim)
            assert (sign * found == expected[:, None]).all()


CHUNKS = st.lists(st.one_of(st.integers(1, 12), st.sampled_from([1, 30, 256, 310])), max_size=3)


class Batches(RuleBasedStateMachine):
    """The caches of a batch that sequences join and leave."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Sequence] = []
        self.caches: list[Cache] = []
        self.kept: list[tuple[Sequence, Piece]] = []
        self.started = 0

    @initialize(window=st.sampled_from([2, 3, 9, 31, 300]), chunks=CHUNKS)
    def choose(self, window: int, chunks: list[int]) -> None:
        self.window = window
        self.spec = spec_of(window)
        self.start(chunks)

    @rule(chunks=CHUNKS)
    def start(self, chunks: list[int]) -> None:
        self.started += 1
        merged = [type(cache).merge([cache]) for cache in fresh(self.window)]
        self.arrive(Sequence(self.started), merged, chunks)

    @precondition(lambda self: self.kept)
    @rule(chunks=CHUNKS, data=st.data())
    def restart(self, chunks: list[int], data: st.DataObject) -> None:
        sequence, piece = data.draw(st.sampled_from(self.kept))
        caches = restore(fresh(self.window), [piece], self.spec)
        merged = [cache.merge([cache]) for cache in caches]
        restored = Sequence(sequence.number, piece.length, restored=True)
        self.check_row(merged, 0, restored)
        self.arrive(restored, merged, chunks)

    def arrive(self, sequence: Sequence, caches: list[Cache], chunks: list[int]) -> None:
        for chunk in chunks:
            feed(caches, [sequence], chunk)
            self.check_row(caches, 0, sequence)
        feed(caches, [sequence], 1)
        if self.rows:
            for ours, theirs in zip(self.caches, caches, strict=True):
                ours.extend(theirs)
        else:
            self.caches = caches
        self.rows.append(sequence)

    @rule(count=st.one_of(st.integers(1, 4), st.just(11)))
    def decode(self, count: int) -> None:
        for _ in range(count):
            feed(self.caches, self.rows, 1)

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        gone = data.draw(st.integers(0, len(self.rows) - 1))
        keep = [row for row in range(len(self.rows)) if row != gone]
        for cache in self.caches:
            cache.filter(keep)
        del self.rows[gone]

    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        row = data.draw(st.integers(0, len(self.rows) - 1))
        sequence = self.rows[row]
        end = sequence.computed
        cut = SequenceCaches(self.caches, row, end, self.spec)
        full, sliding, state = (
            cut.cut(0, end, kind) for kind in (PartKind.TAIL, PartKind.SLIDING, PartKind.STATE)
        )
        assert full is not None
        assert sliding is not None
        assert state is not None
        self.kept.append((Sequence(sequence.number, end), Piece(full, end, sliding, state)))

    @invariant()
    def what_is_cut_out_is_right(self) -> None:
        for row, sequence in enumerate(self.rows):
            self.check_row(self.caches, row, sequence)

    def check_row(self, caches: list[Cache], row: int, sequence: Sequence) -> None:
        computed = sequence.computed
        cut = SequenceCaches(caches, row, computed, self.spec)
        for end in sorted({computed, computed - 1, computed - SHORT, computed - self.window}):
            for length in (1, self.window - 1, self.window):
                start = max(0, end - length)
                if start >= end:
                    continue
                for kind in (PartKind.TAIL, PartKind.SLIDING, PartKind.STATE):
                    part = cut.cut(start, end, kind)
                    if part is not None:
                        check(part, sequence, end, self.spec)
                    else:
                        assert not self.must_be_held(kind, sequence, start, end)

    def must_be_held(self, kind: PartKind, sequence: Sequence, start: int, end: int) -> bool:
        if kind is not PartKind.SLIDING:
            return kind is PartKind.TAIL or end == sequence.computed
        return all(
            end - attention(window).kept_of(end - start)
            >= sequence.computed + sequence.restored - window
            for window in (SHORT, self.window)
        )


TestBatches = Batches.TestCase
TestBatches.settings = settings(max_examples=30, stateful_step_count=10, deadline=None)


class TestSequenceCaches:
    @staticmethod
    def filled() -> list[Cache]:
        caches = [type(cache).merge([cache]) for cache in fresh(9)]
        feed(caches, [Sequence(1)], 20)
        return caches

    @pytest.mark.parametrize("computed", [19, 21])
    def test_refuses_caches_of_another_length(self, computed: int) -> None:
        with pytest.raises(EngineError, match="not all layers"):
            SequenceCaches(self.filled(), 0, computed, spec_of(9))

    @pytest.mark.parametrize("count", [1, 5])
    def test_refuses_caches_of_which_only_some_went_on(self, count: int) -> None:
        """As after an exception in the middle of a model."""
        caches = self.filled()
        feed(caches[:-1], [Sequence(1, 20)], count)
        for computed in (20, 20 + count):
            with pytest.raises(EngineError, match="not all layers"):
                SequenceCaches(caches, 0, computed, spec_of(9))
