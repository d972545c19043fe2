from collections.abc import Iterator, Mapping, Sequence

import pytest
from tests.fakes.blocks import NAMESPACE, make_part
from tests.fakes.cache_bench import tokens_of
from tests.fakes.observed_stores import PATIENCE_S, Gate, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.small_engine import SmallEngine, make_job, right_answer

from semantic.application.stored_tokens import StoredTokens
from semantic.domain.block import StoredPart
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace

SILENCE_S = 0.02


class HangingIndex(ObservedBlocks):
    """`asking` is passed before anything is told of tokens; `asked` counts who came."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = Gate()
        self.asked = 0
        self.broken = False

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        self.asked += 1
        self.asking.enter()
        if self.broken:
            raise CachePersistenceError("the index is broken")
        return super().tokens(namespace, keys)


class Bench:
    def __init__(self, silence_s: float = SILENCE_S) -> None:
        self.store = HangingIndex()
        self.telemetry = RecordedTelemetry()
        self.tokens = StoredTokens(NAMESPACE, silence_s, self.telemetry)
        self.tokens.store = self.store

    def keep(self) -> StoredPart:
        part = make_part()
        self.store.put(part)
        return part


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.asking.open()


def test_tokens_come_from_the_store() -> None:
    bench = Bench(PATIENCE_S)
    header = bench.keep().header
    assert bench.tokens.fetch([header.key]) == {header.key: token_bytes(header.tokens)}
    assert bench.telemetry.events == []


def test_of_no_blocks_the_store_is_not_asked(bench: Bench) -> None:
    assert bench.tokens.fetch([]) == {}
    assert bench.store.asked == 0


def test_a_store_that_fails_tells_nothing_and_is_asked_again() -> None:
    bench = Bench(PATIENCE_S)
    header = bench.keep().header
    bench.store.broken = True
    assert bench.tokens.fetch([header.key]) == {}
    assert bench.telemetry.names() == ["tokens_unreadable"]
    bench.store.broken = False
    assert header.key in bench.tokens.fetch([header.key])


def test_a_store_that_hangs_is_waited_for_once_until_it_answers(bench: Bench) -> None:
    header = bench.keep().header
    bench.store.asking.shut()
    for _ in range(3):
        assert bench.tokens.fetch([header.key]) == {}
    assert bench.store.asked == 1
    assert bench.telemetry.names() == ["tokens_unreadable"]
    late = bench.tokens._late
    assert late is not None
    bench.store.asking.open()
    assert header.key in late.result(PATIENCE_S)
    again = Bench(PATIENCE_S).tokens
    again.store, again._late = bench.store, late
    assert header.key in again.fetch([header.key])


def test_requests_go_on_while_the_index_hangs_and_nothing_is_forgotten() -> None:
    index = HangingIndex()
    prompt = tokens_of(600)
    first = SmallEngine(blocks=index)
    with first.running() as loop:
        job, listener = make_job(1, prompt)
        loop.submit(job)
        listener.answer()
        again, listener = make_job(2, prompt)  # what nobody names is written when it comes back
        loop.submit(again)
        listener.answer()

    # Nothing of it is in memory, and the last block's tokens have to be fetched.
    index.asking.shut()
    second = SmallEngine(blocks=index, read_timeout_s=SILENCE_S, hot_bytes=0)
    with second.running() as loop:
        known = len(second.cache.parts.index)
        assert known
        for number in range(3):
            job, listener = make_job(number, prompt)
            loop.submit(job)
            assert listener.answer() == right_answer(prompt, 8)
        assert second.names().count("tokens_unreadable") == 1
        assert len(second.cache.parts.index) >= known
        index.asking.open()

    third = SmallEngine(blocks=index)
    with third.running() as loop:
        job, listener = make_job(1, prompt)
        loop.submit(job)
        assert listener.answer() == right_answer(prompt, 8)
        assert listener.cached == 599
