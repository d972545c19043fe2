"""The scripted executor is as strict as the tests that use it take it to be.

Whatever a layer sees decides about the answer: what is stale, somebody else's or cut in the wrong
place is refused, and where the executor trusts its caller, as real ones do, answers go wrong.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.fakes.cache_bench import tokens_of
from tests.fakes.scripted_executor import EVERYTHING, SPECS, ScriptedExecutor
from tests.fakes.small_engine import GREEDY, right_answer

from semantic.domain.block import PartKind
from semantic.domain.errors import IncompatibleCacheError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock

A, B = SequenceId(1), SequenceId(2)
TOKENS, STALE = tokens_of(600), (94, *tokens_of(600)[1:])
END = 512


def blocks_of(executor: ScriptedExecutor, tokens: tuple[TokenId, ...]) -> list[AttachedBlock]:
    """The first two blocks of `tokens` with all their parts."""
    executor.attach(A, (), (), GREEDY)
    blocks = []
    for start in range(0, END, 256):
        end = start + 256
        executor.run(StepPlan((), PrefillChunk(A, tokens[start:end], last=False)))
        full = executor.seal(A, start, end, PartKind.FULL)
        sliding = executor.seal(A, start, end, PartKind.SLIDING)
        state = executor.seal(A, start, end, PartKind.STATE)
        assert full
        assert sliding
        assert state
        blocks.append(AttachedBlock(full, 256, sliding, state))
    executor.release(A)
    return blocks


def answer(executor: ScriptedExecutor, blocks: list[AttachedBlock]) -> tuple[TokenId, ...]:
    """What follows `TOKENS` if their beginning is taken from these blocks."""
    executor.attach(B, TOKENS[:END], blocks, GREEDY)
    executor.run(StepPlan((), PrefillChunk(B, TOKENS[END:], last=True)))
    found = [executor.run(StepPlan((B,))).sampled[0].token for _ in range(8)]
    executor.release(B)
    return tuple(found)


def spoiled(
    right: list[AttachedBlock], stale: list[AttachedBlock]
) -> Iterator[list[AttachedBlock]]:
    first, last = right
    yield [replace(first, full=stale[0].full), last]
    yield [first, replace(last, full=stale[1].full)]
    yield [replace(first, sliding=stale[0].sliding), last]
    yield [first, replace(last, sliding=stale[1].sliding)]
    yield [first, replace(last, state=stale[1].state)]
    yield [first, replace(last, state=first.state)]
    yield [first, replace(last, sliding=first.sliding)]


def test_right_parts_make_the_right_answer() -> None:
    executor = ScriptedExecutor(EVERYTHING)
    right = blocks_of(executor, TOKENS)
    assert answer(executor, right) == right_answer(TOKENS, 8)
    # Of the first block no state is needed.
    assert answer(executor, [replace(right[0], state=None), right[1]]) == right_answer(TOKENS, 8)


@pytest.mark.parametrize("number", range(7))
def test_any_stale_part_makes_a_wrong_answer_or_is_refused(number: int) -> None:
    strict, trusting = ScriptedExecutor(EVERYTHING), ScriptedExecutor(EVERYTHING, trusting=True)
    for executor in (strict, trusting):
        right, stale = blocks_of(executor, TOKENS), blocks_of(executor, STALE)
        blocks = list(spoiled(right, stale))[number]
        if executor is trusting:
            wrong = answer(executor, blocks)
            assert wrong != right_answer(TOKENS, 8)
            assert wrong[-1] != right_answer(TOKENS, 8)[-1]
        else:
            with pytest.raises(IncompatibleCacheError):
                answer(executor, blocks)


MISSING: dict[str, Callable[[list[AttachedBlock]], list[AttachedBlock]]] = {
    "state": lambda blocks: [blocks[0], replace(blocks[1], state=None)],
    "sliding": lambda blocks: [blocks[0], replace(blocks[1], sliding=None)],
    "sliding before": lambda blocks: [replace(blocks[0], sliding=None), blocks[1]],
    "block": lambda blocks: [blocks[1]],
    "order": lambda blocks: [blocks[1], blocks[0]],
}


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("trusting", [True, False])
def test_what_is_missing_is_missed_even_by_one_that_trusts(missing: str, *, trusting: bool) -> None:
    executor = ScriptedExecutor(EVERYTHING, trusting=trusting)
    blocks = MISSING[missing](blocks_of(executor, TOKENS))
    if missing == "order" and trusting:
        assert answer(executor, blocks) != right_answer(TOKENS, 8)
    else:
        with pytest.raises(IncompatibleCacheError):
            answer(executor, blocks)


@pytest.mark.parametrize("model", SPECS)
def test_wrong_kv_makes_all_that_follows_wrong(model: str) -> None:
    """So a mistake that is captured does not heal."""
    spec = SPECS[model]
    executor = ScriptedExecutor(spec, trusting=True)
    executor.attach(A, (), (), GREEDY)
    executor.run(StepPlan((), PrefillChunk(A, STALE[:7], last=False)))
    executor._running[A].tokens = TOKENS[:7]
    executor._running[A].truth = type(executor._running[A].truth).computed(spec, TOKENS[:7])
    executor.run(StepPlan((), PrefillChunk(A, TOKENS[7:], last=True)))
    found = [executor.run(StepPlan((A,))).sampled[0].token for _ in range(8)]
    assert tuple(found) != right_answer(TOKENS, 8)
