"""What every model executor does. Each implementation is run through the same tests.

Equality is token for token and, for KV, byte for byte: same blocks, same chunks, same batch shape
(the equality promise, b). Sequences that share a batch are compared with running alone in float32
only, where the last bits do not decide.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from tests.fakes import random_models
from tests.fakes.engine_driver import (
    GREEDY,
    Driver,
    KeptBlock,
    Tokens,
    answer_alone,
    attached,
    exported,
    keep,
    last_block,
    make_prompt,
    rule_of,
    through_bytes,
)
from tests.fakes.executor_subjects import (
    ALL,
    CONFIGS,
    IN_FLOAT32,
    NESTED,
    Maker,
    Subject,
    mlx_subject,
)
from tests.fakes.scripted_executor import MisuseError, ScriptedExecutor

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.adapters.outbound.mlx.model_loader import load_weights
from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import (
    BLOCK_SIZE,
    AttentionLayer,
    Granularity,
    ModelCacheSpec,
)
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import SamplingParams, TokenLogprobs
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock, ModelExecutor, PartHandle

A, B, C, D = (SequenceId(number) for number in range(4))


@pytest.fixture(params=ALL.values(), ids=list(ALL))
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture
def executor(subject: Subject) -> ModelExecutor:
    return subject.executor


@pytest.fixture(params=IN_FLOAT32.values(), ids=list(IN_FLOAT32))
def precise(request: pytest.FixtureRequest) -> ModelExecutor:
    made: Subject = request.param()
    return made.executor


def spec_of(executor: ModelExecutor) -> ModelCacheSpec:
    assert executor.capabilities.spec is not None
    return executor.capabilities.spec


def sealed(executor: ModelExecutor, start: int, end: int, kind: PartKind) -> PartHandle:
    """A part of sequence A that must still be there."""
    part = executor.seal(A, start, end, kind)
    assert part is not None
    return part


def shapes(spec: ModelCacheSpec, kind: PartKind, num_tokens: int) -> dict[str, tuple[int, ...]]:
    """What arrays such a part has, as the port's users are told."""
    found: dict[str, tuple[int, ...]] = {}
    for group, (layer, places) in enumerate(spec.groups(kind)):
        if isinstance(layer, AttentionLayer):
            rows = (len(places), 1, layer.num_kv_heads, layer.kept_of(num_tokens))
            found[f"keys.{group}"] = (*rows, layer.key_dim)
            found[f"values.{group}"] = (*rows, layer.value_dim)
        else:
            for number, array in enumerate(layer.arrays):
                found[f"state.{group}.{number}"] = (len(places), *array.shape)
    return found


class TestParts:
    def test_come_back_bit_for_bit(self, executor: ModelExecutor) -> None:
        Driver(executor).start(A, make_prompt(263))
        for kind, handle in keep(executor, A, 7, 263).kinds.items():
            tensors = executor.export(handle)
            returned = executor.import_part(kind, tensors, 256)
            assert executor.export(returned) == tensors
            assert (returned.num_tokens, returned.nbytes) == (256, handle.nbytes)

    def test_there_is_one_of_each_kind_that_the_rule_names(self, executor: ModelExecutor) -> None:
        Driver(executor).start(A, make_prompt(30))
        extras = rule_of(executor).extras
        assert list(keep(executor, A, 0, 30).kinds) == [PartKind.TAIL, *extras]
        for kind in {PartKind.SLIDING, PartKind.STATE} - set(extras):
            with pytest.raises(IncompatibleCacheError):
                executor.seal(A, 0, 30, kind)

    @pytest.mark.parametrize("length", [13, 256])
    def test_are_as_the_spec_says(self, executor: ModelExecutor, length: int) -> None:
        spec = spec_of(executor)
        Driver(executor).start(A, make_prompt(length + 4))
        for kind, handle in keep(executor, A, 4, length + 4).kinds.items():
            tensors = executor.export(handle)
            assert {one.name: one.shape for one in tensors} == shapes(spec, kind, length)
            assert handle.nbytes == sum(len(one.data) for one in tensors)
            assert handle.nbytes == spec.nbytes(kind, length)

    @pytest.mark.parametrize(
        "bits", [b"\x01\x00\xa0\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"]
    )
    def test_keep_bits_that_arithmetic_would_change(
        self, executor: ModelExecutor, bits: bytes
    ) -> None:
        Driver(executor).start(A, make_prompt(4))
        for kind, handle in keep(executor, A, 0, 4).kinds.items():
            tensors = tuple(
                replace(one, data=bits * (len(one.data) // 4)) for one in executor.export(handle)
            )
            assert executor.export(executor.import_part(kind, tensors, 4)) == tensors

    def test_do_not_change_when_their_sequence_goes_on(self, executor: ModelExecutor) -> None:
        driver = Driver(executor)
        driver.start(A, make_prompt(256))
        block = keep(executor, A, 0, 256)
        before = exported(executor, block)
        driver.steps(20)
        driver.release(A)
        executor.reset()
        assert exported(executor, block) == before

    def test_do_not_change_when_they_are_continued(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(40)
        Driver(executor).start(A, prompt[:32])
        block = keep(executor, A, 0, 32)
        before = exported(executor, block)
        executor.reset()
        driver, rule = Driver(executor), rule_of(executor)
        lengths = (32, 31, 5) if rule.anywhere else (32, 32, 32)
        for sequence, length in zip((A, B, C), lengths, strict=True):
            driver.start(sequence, prompt, blocks=attached(rule, [block], length))
        driver.steps(3)
        assert exported(executor, block) == before

    def test_hold_generated_tokens_as_well(self, executor: ModelExecutor) -> None:
        driver = Driver(executor)
        prompt = make_prompt(10)
        driver.start(A, prompt)
        driver.steps(6)
        block = keep(executor, A, 0, 16)
        driver.steps(5)
        answer = driver.release(A)
        # The 17th token was chosen before sealing, its KV came after.
        driver.start(B, prompt + answer[:7], blocks=attached(rule_of(executor), [block], 16))
        driver.steps(4)
        assert driver.release(B) == answer[7:]

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (-1, 5), (5, 5), (6, 5), (10, 12)])
    def test_only_computed_positions_can_be_sealed(
        self, executor: ModelExecutor, start: int, end: int
    ) -> None:
        Driver(executor).start(A, make_prompt(10))
        for kind in (PartKind.FULL, PartKind.TAIL, *rule_of(executor).extras):
            with pytest.raises(ValueError, match="computed"):
                executor.seal(A, start, end, kind)

    def test_only_known_sequences_can_be_sealed(self, executor: ModelExecutor) -> None:
        with pytest.raises(ValueError, match="not in the engine"):
            executor.seal(A, 0, 1, PartKind.TAIL)

    def test_can_be_sealed_between_chunks_of_prefill(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(30)
        executor.attach(A, (), (), GREEDY)
        executor.run(StepPlan((), PrefillChunk(A, prompt[:20], last=False)))
        early = executor.export(sealed(executor, 0, 20, PartKind.TAIL))
        executor.run(StepPlan((), PrefillChunk(A, prompt[20:], last=True)))
        assert executor.export(sealed(executor, 0, 20, PartKind.TAIL)) == early

    @pytest.mark.parametrize("wrong", ["name", "dtype", "shape", "bytes", "missing", "twice"])
    def test_other_models_parts_are_refused(self, executor: ModelExecutor, wrong: str) -> None:
        Driver(executor).start(A, make_prompt(8))
        for kind, handle in keep(executor, A, 0, 8).kinds.items():
            tensors = executor.export(handle)
            if not tensors:  # of a model without full attention
                continue
            first, *others = tensors
            changed: dict[str, tuple[Tensor, ...]] = {
                "name": (replace(first, name="other"), *others),
                "dtype": (replace(first, dtype="F16"), *others),
                "shape": (replace(first, shape=(*first.shape[:-1], 77)), *others),
                "bytes": (replace(first, data=first.data[:-4]), *others),
                "missing": tuple(others),
                "twice": (first, *tensors),
            }
            with pytest.raises(IncompatibleCacheError):
                executor.import_part(kind, changed[wrong], 8)

    def test_the_number_of_tokens_must_be_right(self, executor: ModelExecutor) -> None:
        Driver(executor).start(A, make_prompt(8))
        tail = exported(executor, keep(executor, A, 0, 8))[PartKind.TAIL]
        if tail:
            with pytest.raises(IncompatibleCacheError):
                executor.import_part(PartKind.TAIL, tail, 7)

    def test_are_taken_for_nothing_but_what_they_are(self, executor: ModelExecutor) -> None:
        Driver(executor).start(A, make_prompt(8))
        parts = exported(executor, keep(executor, A, 0, 8))
        for kind in set(PartKind) - {PartKind.FULL, PartKind.TAIL}:
            if parts[PartKind.TAIL]:
                with pytest.raises(IncompatibleCacheError):
                    executor.import_part(kind, parts[PartKind.TAIL], 300)


Columns = Mapping[str, Sequence[npt.NDArray[np.uint32]]]
"""Of every array what it held of each position, when that was the newest."""


def columns(executor: ModelExecutor, prompt: Tokens, chunks: Sequence[int], count: int) -> Columns:
    """Those of a run that is asked for every position as soon as it is computed."""
    found: dict[str, list[npt.NDArray[np.uint32]]] = {}

    def note(start: int, end: int) -> None:
        for position in range(start, end):
            for one in executor.export(sealed(executor, position, position + 1, PartKind.SLIDING)):
                found.setdefault(one.name, []).append(as_bits(one)[:, :, :, 0])

    driver = Driver(executor)
    executor.attach(A, (), (), GREEDY)
    begin = 0
    for end in (*chunks, len(prompt)):
        driver.prefill(A, prompt[begin:end], last=end == len(prompt))
        note(begin, end)
        begin = end
    for step in range(count):
        driver.step()
        note(len(prompt) + step, len(prompt) + step + 1)
    driver.release(A)
    return found


def as_bits(tensor: Tensor) -> npt.NDArray[np.uint32]:
    assert tensor.dtype == "F32"
    return np.frombuffer(tensor.data, np.uint32).reshape(tensor.shape)


def apart(tensors: Sequence[Tensor], truth: Columns, end: int) -> float:
    """How far a part that ends at `end` is from what was computed; 0 only if all bits agree."""
    worst = 0.0
    for one in tensors:
        expected = np.stack(truth[one.name][end - one.shape[3] : end], axis=3)
        if not np.array_equal(as_bits(one), expected):
            difference = as_bits(one).view(np.float32) - expected.view(np.float32)
            worst = max(worst, float(np.abs(difference).max()), 1e-12)
    return worst


def ends_to_try(computed: int, window: int) -> list[int]:
    """Ends of blocks, from the newest position to what no window sees."""
    tried = {computed, computed - 1, computed - 2, computed - window // 2, computed - window}
    return sorted(end for end in tried if end > 0)


def is_held(spec: ModelCacheSpec, computed: int, start: int, end: int) -> bool:
    """Whether every sliding layer must still have its share.

    They hold a window's tokens before `computed`; right after they were restored one less.
    """
    layers = [layer for layer, _ in spec.groups(PartKind.SLIDING)]
    return all(
        isinstance(layer, AttentionLayer)
        and end - layer.kept_of(end - start) >= computed - (layer.window or 0)
        for layer in layers
    )


SHORT = ("scripted-two-windows", "gemma3_text")
RECURRENT = ("scripted-recurrent", "qwen3_next", "qwen3_next-bfloat16", "mamba2")
WINDOWED = (*SHORT, "scripted-everything", "gpt_oss")


class TestWindows:
    """What sliding layers leave behind is right, or it is not to be had."""

    @pytest.fixture(params=WINDOWED)
    def windowed(self, request: pytest.FixtureRequest) -> ModelExecutor:
        return IN_FLOAT32[request.param]().executor

    @pytest.fixture(params=SHORT)
    def short(self, request: pytest.FixtureRequest) -> ModelExecutor:
        """One whose window soon comes around."""
        return IN_FLOAT32[request.param]().executor

    @staticmethod
    def check(
        executor: ModelExecutor,
        sequence: SequenceId,
        computed: int,
        truth: Columns,
        *,
        restored: bool = False,
    ) -> list[float]:
        """Ask for stretches of all lengths; how far each that there is differs."""
        window = rule_of(executor).windows[-1]
        differences = []
        for end in ends_to_try(computed, window):
            for start in {max(0, end - length) for length in (1, 10, window - 1, window, 256)}:
                part = executor.seal(sequence, start, end, PartKind.SLIDING)
                if part is not None:
                    differences.append(apart(executor.export(part), truth, end))
                else:
                    assert not is_held(spec_of(executor), computed + restored, start, end)
        return differences

    @pytest.mark.parametrize("beyond", [-6, 21])
    def test_are_sealed_wherever_the_ring_is(self, short: ModelExecutor, beyond: int) -> None:
        """Prompts that end before and behind the window; the answer goes around in it."""
        window = rule_of(short).windows[0]
        prompt = make_prompt(window + beyond)
        chunks = range(25, len(prompt) - 1, 25)
        count = window + 12
        truth = columns(short, prompt, chunks, count)
        driver = Driver(short)
        driver.start(A, prompt, cuts=chunks)
        for step in range(count):
            if step % 5 == 0:
                assert set(self.check(short, A, len(prompt) + step, truth)) == {0}
            driver.step()

    def test_are_right_between_chunks_and_when_restored(self, windowed: ModelExecutor) -> None:
        prompt = make_prompt(356)
        chunks = [*range(30, 256, 30), 256, 280, 310, 340]
        truth = columns(windowed, prompt, chunks, 0)
        driver = Driver(windowed)
        windowed.attach(A, (), (), GREEDY)
        begin = 0
        blocks: list[KeptBlock] = []
        for end in chunks:
            driver.prefill(A, prompt[begin:end])
            assert set(self.check(windowed, A, end, truth)) == {0}
            begin = end
            if end in (256, 280, 340):
                blocks.append(keep(windowed, A, *last_block(end)))
        whole, short, longer = blocks
        for last in (None, short, longer):
            used = [whole] if last is None else [whole, last]
            position = used[-1].end
            windowed.attach(
                B, prompt[:position], attached(rule_of(windowed), used, position), GREEDY
            )
            assert set(self.check(windowed, B, position, truth, restored=True)) == {0}
            if position == 280:
                driver.prefill(B, prompt[280:310])
                assert set(self.check(windowed, B, 310, truth)) == {0}
            windowed.release(B)

    @pytest.mark.parametrize("full", [False, True], ids=["windows fill", "all windows are full"])
    def test_are_right_in_a_batch_that_others_join_and_leave(
        self, short: ModelExecutor, *, full: bool
    ) -> None:
        window = rule_of(short).windows[0]
        longest = window + (47 if full else 30)
        lengths = (window + 30, window + 42, longest) if full else (7, longest, 20)
        prompts = {
            key: make_prompt(length, key + 1)
            for key, length in zip((A, B, C), lengths, strict=True)
        }
        chunks = range(29, longest, 29)
        count = window + 20
        truth = {
            key: columns(short, prompt, [cut for cut in chunks if cut < len(prompt)], count)
            for key, prompt in prompts.items()
        }
        driver = Driver(short)

        def check() -> None:
            for key in driver.decoding:
                computed = len(prompts[key]) + len(driver.answers[key])
                assert max(self.check(short, key, computed, truth[key])) < 1e-3

        for key, pause in ((A, 5), (B, 4), (C, 9)):
            driver.start(key, prompts[key], cuts=chunks)
            check()
            driver.steps(pause)
            check()
        driver.release(B)
        check()
        driver.steps(window // 2)
        check()
        driver.release(A)
        check()
        driver.steps(3)
        check()

    def test_have_moved_on_as_soon_as_they_must(self, windowed: ModelExecutor) -> None:
        """The newest token takes the place of the oldest one that a window held."""
        window = rule_of(windowed).windows[0]
        driver = Driver(windowed)
        driver.start(A, make_prompt(256))
        kept = windowed.export(sealed(windowed, 0, 256, PartKind.SLIDING))
        first = 256 - min(256, window - 1)
        driver.steps(first + window - 256)
        assert windowed.export(sealed(windowed, 0, 256, PartKind.SLIDING)) == kept
        driver.step()
        assert windowed.seal(A, 0, 256, PartKind.SLIDING) is None


class TestStates:
    @pytest.mark.parametrize("name", ["scripted-hybrid", "scripted-everything", *RECURRENT])
    def test_are_those_of_the_newest_position_or_none(self, name: str) -> None:
        executor = ALL[name]().executor
        driver = Driver(executor)
        driver.start(A, make_prompt(256), cuts=(200,))
        now = sealed(executor, 0, 256, PartKind.STATE)
        assert executor.seal(A, 0, 255, PartKind.STATE) is None
        driver.step()
        assert executor.seal(A, 0, 256, PartKind.STATE) is None
        later = sealed(executor, 0, 257, PartKind.STATE)
        assert executor.export(later) != executor.export(now)


class TestAttach:
    @pytest.mark.parametrize("num_tokens", [0, 15, 17])
    def test_needs_exactly_as_many_tokens_as_blocks_hold(
        self, executor: ModelExecutor, num_tokens: int
    ) -> None:
        prompt = make_prompt(20)
        Driver(executor).start(A, prompt[:16])
        blocks = attached(rule_of(executor), [keep(executor, A, 0, 16)], 16)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, prompt[:num_tokens], blocks, GREEDY)

    @pytest.mark.parametrize("length", [0, 17])
    def test_takes_no_more_than_a_block_holds(self, executor: ModelExecutor, length: int) -> None:
        prompt = make_prompt(20)
        Driver(executor).start(A, prompt[:16])
        (block,) = attached(rule_of(executor), [keep(executor, A, 0, 16)], 16)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, prompt[:length], [replace(block, length=length)], GREEDY)

    def test_copies_the_tokens(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(20)
        driver = Driver(executor)
        driver.start(A, prompt, cuts=(16,))
        driver.steps(5)
        expected = driver.release(A)
        driver.start(A, prompt[:16])
        blocks = attached(rule_of(executor), [keep(executor, A, 0, 16)], 16)
        executor.reset()
        tokens = list(prompt[:16])
        executor.attach(B, tokens, blocks, GREEDY)
        executor.run(StepPlan((), PrefillChunk(B, prompt[16:], last=True)))
        assert tokens == list(prompt[:16])
        tokens.clear()
        answer = [executor.run(StepPlan((B,))).sampled[0].token for _ in range(5)]
        assert tuple(answer) == expected

    def test_nothing_of_a_foreign_engine_is_taken(self, executor: ModelExecutor) -> None:
        @dataclass(frozen=True)
        class Foreign:
            num_tokens: int = 1
            nbytes: int = 8

        with pytest.raises(IncompatibleCacheError):
            executor.attach(A, (5,), [AttachedBlock(Foreign(), 1)], GREEDY)
        with pytest.raises(IncompatibleCacheError):
            executor.export(Foreign())

    def test_nothing_is_taken_that_lacks_what_layers_go_on_with(
        self, executor: ModelExecutor
    ) -> None:
        prompt = make_prompt(300)
        blocks = blocks_of(executor, prompt)
        rule = rule_of(executor)
        whole = attached(rule, blocks, 300)
        executor.attach(B, prompt, whole, GREEDY)
        executor.release(B)
        for place, block in enumerate(whole):
            for lacking in (replace(block, sliding=None), replace(block, state=None)):
                if lacking == block:
                    continue
                with pytest.raises(IncompatibleCacheError):
                    executor.attach(
                        B, prompt, [*whole[:place], lacking, *whole[place + 1 :]], GREEDY
                    )

    def test_a_part_of_a_block_serves_where_the_rule_allows(self, executor: ModelExecutor) -> None:
        """With all the parts that there are: the rule's own choice may not be enough."""
        prompt = make_prompt(300)
        blocks = blocks_of(executor, prompt)
        rule = rule_of(executor)
        for length in (1, 5, 255, 256, 299):
            used = [
                AttachedBlock(one.full, min(one.end, length) - one.start, one.sliding, one.state)
                for one in blocks
                if one.start < length
            ]
            if length == 256 or rule.inside(256 if length < 256 else 44):
                executor.attach(B, prompt[:length], used, GREEDY)
                executor.release(B)
            else:
                with pytest.raises(IncompatibleCacheError):
                    executor.attach(B, prompt[:length], used, GREEDY)

    def test_parts_of_other_blocks_or_kinds_are_refused(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(300)
        first, second = blocks_of(executor, prompt)
        extra = first.sliding or first.state
        wrong = [AttachedBlock(first.full, 256, first.full, first.state)]
        wrong += [AttachedBlock(first.full, 256, first.sliding, first.full)]
        if extra is not None:
            wrong += [AttachedBlock(extra, 256, first.sliding, first.state)]
            wrong += [AttachedBlock(first.full, 256, second.sliding, second.state)]
        for block in wrong:
            with pytest.raises(IncompatibleCacheError):
                executor.attach(B, prompt[:256], [block], GREEDY)

    def test_blocks_serve_several_sequences_at_once(self, precise: ModelExecutor) -> None:
        shared = make_prompt(256)
        rule = rule_of(precise)
        shorter = 200 if rule.anywhere else 256
        prompts = {A: shared + make_prompt(5, 1), B: shared[:shorter] + make_prompt(9, 2)}
        expected = {key: answer_alone(precise, prompt, 8) for key, prompt in prompts.items()}
        Driver(precise).start(A, shared)
        block = keep(precise, A, 0, 256)
        precise.reset()
        driver = Driver(precise)
        driver.start(A, prompts[A], blocks=attached(rule, [block], 256))
        driver.start(B, prompts[B], blocks=attached(rule, [block], shorter))
        driver.steps(8)
        for key, answer in expected.items():
            assert driver.release(key)[:8] == answer


def blocks_of(executor: ModelExecutor, prompt: Tokens) -> list[KeptBlock]:
    """All blocks of a prompt, each sealed as soon as it is complete."""
    driver = Driver(executor)
    executor.attach(A, (), (), GREEDY)
    found = []
    for start in range(0, len(prompt), BLOCK_SIZE):
        end = min(start + BLOCK_SIZE, len(prompt))
        driver.prefill(A, prompt[start:end])
        found.append(keep(executor, A, start, end))
    executor.release(A)
    return found


@dataclass(frozen=True, slots=True)
class Uninterrupted:
    """A run that was never stopped: what it answered, what it left behind, at `cuts` and later."""

    prompt: Tokens
    cuts: tuple[int, ...]
    answer: Tokens
    kept: Mapping[int, KeptBlock]
    """By where they end."""
    finally_kept: Mapping[PartKind, tuple[Tensor, ...]]

    def blocks(self, position: int) -> list[KeptBlock]:
        """What holds the first tokens up to `position`."""
        whole = range(BLOCK_SIZE, position + 1, BLOCK_SIZE)
        ends = [*whole, *([position] if position % BLOCK_SIZE else [])]
        return [self.kept[end] for end in ends]


def turning_points(executor: ModelExecutor) -> tuple[int, ...]:
    """Positions before, at and behind a window's length and a block's end.

    And where a window, or one that is longer than a block, reaches into the block before.
    """
    windows = rule_of(executor).windows
    found = {255, 256, 257}
    for window in windows:
        found |= {window - 1, window, window + 1}
    if windows:
        found |= {513} if windows[-1] > BLOCK_SIZE else {270}
    return tuple(sorted(found))


LONG_ANSWER = 64


def run_through(executor: ModelExecutor, cuts: tuple[int, ...]) -> Uninterrupted:
    prompt = make_prompt(cuts[-1] + 3)
    driver = Driver(executor)
    executor.attach(A, (), (), GREEDY)
    kept = {}
    for begin, end in pairwise((0, *cuts)):
        driver.prefill(A, prompt[begin:end])
        boundary = end // BLOCK_SIZE * BLOCK_SIZE
        for last in {boundary, end} if boundary > begin else {end}:
            kept[last] = keep(executor, A, *last_block(last))
    driver.prefill(A, prompt[cuts[-1] :], last=True)
    driver.steps(LONG_ANSWER)
    left = exported(executor, keep(executor, A, 0, len(prompt) + LONG_ANSWER))
    return Uninterrupted(prompt, cuts, driver.release(A), kept, left)


class TestRestore:
    """A sequence that continues from blocks, as if it had never stopped."""

    @pytest.mark.parametrize("turn", [0, 1])
    def test_equals_the_uninterrupted_run_at_every_turning_point(
        self, executor: ModelExecutor, turn: int
    ) -> None:
        # Chunks of one token turn a ring, and then the same numbers lie in other places.
        whole = run_through(executor, turning_points(executor)[turn::2])
        end = len(whole.prompt) + LONG_ANSWER
        driver = Driver(executor)
        for position in whole.cuts:
            blocks = [through_bytes(executor, executor, one) for one in whole.blocks(position)]
            driver.start(
                B,
                whole.prompt,
                cuts=whole.cuts,
                blocks=attached(rule_of(executor), blocks, position),
            )
            driver.steps(LONG_ANSWER)
            assert driver.answers[B] == list(whole.answer), position
            assert exported(executor, keep(executor, B, 0, end)) == whole.finally_kept, position
            driver.release(B)

    def test_equals_the_uninterrupted_run_in_a_ragged_batch_of_four(
        self, executor: ModelExecutor
    ) -> None:
        points = turning_points(executor)
        lengths = dict(zip((A, B, C, D), (points[0], 256, points[-2], points[-1]), strict=True))
        prompts = {key: make_prompt(length + 5, key) for key, length in lengths.items()}

        def batch_of_four() -> tuple[dict[SequenceId, Tokens], dict[SequenceId, list[KeptBlock]]]:
            """Every first stretch of a prompt is computed, or restored if it was before."""
            driver, blocks = Driver(executor), dict(kept)
            for key, length in lengths.items():
                if key in kept:
                    used = attached(rule_of(executor), kept[key], length)
                    executor.attach(key, prompts[key][:length], used, GREEDY)
                else:
                    executor.attach(key, (), (), GREEDY)
                    blocks[key] = []
                    for start in range(0, length, BLOCK_SIZE):
                        end = min(start + BLOCK_SIZE, length)
                        driver.prefill(key, prompts[key][start:end])
                        blocks[key].append(keep(executor, key, start, end))
            for key, length in lengths.items():
                driver.prefill(key, prompts[key][length:], last=True)
            driver.steps(LONG_ANSWER)
            return {key: driver.release(key) for key in prompts}, blocks

        kept: dict[SequenceId, list[KeptBlock]] = {}
        expected, kept = batch_of_four()
        answers, _ = batch_of_four()
        assert answers == expected

    def test_after_a_prompt_of_whole_blocks(self, executor: ModelExecutor) -> None:
        """From the position before its last token, so that the answer can be given again."""
        length = 512
        prompt = make_prompt(length)
        driver = Driver(executor)
        executor.attach(A, (), (), GREEDY)
        cuts = [*range(BLOCK_SIZE, length, BLOCK_SIZE), length - 1]
        blocks = []
        for begin, end in pairwise((0, *cuts)):
            driver.prefill(A, prompt[begin:end])
            blocks.append(keep(executor, A, *last_block(end)))
        driver.prefill(A, prompt[length - 1 :], last=True)
        driver.steps(9)
        answer = driver.release(A)
        driver.start(B, prompt, blocks=attached(rule_of(executor), blocks, length - 1))
        driver.steps(9)
        assert driver.release(B) == answer

    def test_a_prompt_of_whole_blocks_can_be_sealed_with_its_first_token(
        self, executor: ModelExecutor
    ) -> None:
        prompt = make_prompt(512)
        driver = Driver(executor)
        executor.attach(A, (), (), GREEDY)
        driver.prefill(A, prompt[:256])
        blocks = [keep(executor, A, 0, 256)]
        driver.prefill(A, prompt[256:], last=True)
        at_once = exported(executor, keep(executor, A, 256, 512))
        driver.steps(1)
        late = keep(executor, A, 256, 512)
        assert late.state is None
        at_once.pop(PartKind.STATE, None)
        assert exported(executor, late) == at_once
        driver.steps(6)
        answer = driver.release(A)
        if rule_of(executor).recurrent:
            return
        blocks = [through_bytes(executor, executor, block) for block in (*blocks, late)]
        driver.start(B, prompt + answer[:1], blocks=attached(rule_of(executor), blocks, 512))
        driver.steps(6)
        assert driver.release(B) == answer[1:]

    @pytest.mark.parametrize("make", ALL.values(), ids=list(ALL))
    def test_in_another_engine_of_the_same_model(self, make: Maker) -> None:
        first, second = make().executor, make().executor
        prompt = make_prompt(50)
        driver = Driver(first)
        driver.start(A, prompt, cuts=(40,))
        driver.steps(9)
        answer = driver.release(A)
        driver.start(A, prompt[:40])
        block = through_bytes(first, second, keep(first, A, 0, 40))
        driver = Driver(second)
        driver.start(A, prompt, blocks=attached(rule_of(second), [block], 40))
        driver.steps(9)
        assert driver.release(A) == answer

    def test_again_and_again(self, precise: ModelExecutor) -> None:
        """Every turn of a conversation continues from what the turn before left behind."""
        prompt = make_prompt(250)
        driver = Driver(precise)
        driver.start(A, prompt)
        driver.steps(40)
        straight = driver.release(A)
        blocks: list[KeptBlock] = []
        known: Tokens = prompt
        position = 0
        for _ in range(4):
            driver.start(B, known, blocks=attached(rule_of(precise), blocks, position))
            # The last token of an answer is fed by the turn that follows.
            blocks = [block for block in blocks if block.end == BLOCK_SIZE]
            for _ in range(10):
                position = len(known) + len(driver.answers[B])
                if position == BLOCK_SIZE:
                    blocks.append(keep(precise, B, 0, BLOCK_SIZE))
                driver.step()
                if len(driver.answers[B]) == 9:
                    tail = keep(precise, B, *last_block(len(known) + 9))
            position = tail.end
            blocks.append(tail)
            known = known + tuple(driver.release(B))
            blocks = [through_bytes(precise, precise, block) for block in blocks]
        assert known[250:] == straight

    def test_wrong_kv_would_be_noticed(self, executor: ModelExecutor) -> None:
        """These comparisons mean something: other KV gives another answer."""
        prompt, other = make_prompt(40), make_prompt(40, 1)
        driver = Driver(executor)
        driver.start(A, prompt)
        driver.steps(9)
        expected = driver.release(A)
        driver.start(A, other[:30])
        blocks = attached(rule_of(executor), [keep(executor, A, 0, 30)], 30)
        driver.release(A)
        try:
            driver.start(B, prompt, blocks=blocks)
        except IncompatibleCacheError:
            return
        driver.steps(9)
        assert driver.release(B) != expected


class TestBatch:
    def test_of_four_ragged_sequences_equals_running_alone(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(3, 1), B: make_prompt(300, 2), C: make_prompt(1, 3)}
        prompts[D] = make_prompt(70, 4)
        expected = {key: answer_alone(precise, prompt, 12) for key, prompt in prompts.items()}
        driver = Driver(precise)
        for key, prompt in prompts.items():
            driver.start(key, prompt)
        driver.steps(12)
        for key, answer in expected.items():
            assert driver.release(key)[:12] == answer

    def test_sequences_join_while_others_decode(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(9, 1), B: make_prompt(290, 2), C: make_prompt(30, 3)}
        expected = {key: answer_alone(precise, prompt, 20) for key, prompt in prompts.items()}
        driver = Driver(precise)
        driver.start(A, prompts[A])
        driver.steps(3)
        driver.start(B, prompts[B], cuts=(64, 128, 256))
        assert len(driver.answers[A]) == 3 + 4
        driver.steps(2)
        driver.start(C, prompts[C], cuts=(10,))
        driver.steps(11)
        for key, answer in expected.items():
            got = driver.release(key)
            assert got[:20] == answer[: len(got)]

    def test_blocks_cut_from_a_batch_continue_alone(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(5, 1), B: make_prompt(240, 2), C: make_prompt(33, 3)}
        driver = Driver(precise)
        for key, prompt in prompts.items():
            driver.start(key, prompt)
        driver.steps(4)
        kept = {}
        for key, prompt in prompts.items():
            known = prompt + tuple(driver.answers[key])
            block = keep(precise, key, 0, len(known))
            kept[key] = (known, through_bytes(precise, precise, block))
        driver.steps(7)
        going_on = {key: driver.release(key)[-7:] for key in prompts}
        for key, (known, block) in kept.items():
            # The first of them was chosen before sealing, its KV came after.
            answer = going_on[key]
            blocks = attached(rule_of(precise), [block], len(known))
            driver.start(D, known + answer[:1], blocks=blocks)
            driver.steps(6)
            assert driver.release(D) == answer[1:]

    def test_release_in_prefill_leaves_the_others_alone(self, precise: ModelExecutor) -> None:
        prompt = make_prompt(50, 1)
        expected = answer_alone(precise, prompt, 6)
        driver = Driver(precise)
        driver.start(A, prompt)
        precise.attach(B, (), (), GREEDY)
        driver.step(PrefillChunk(B, make_prompt(20), last=False))
        precise.release(B)
        driver.steps(5)
        assert driver.release(A) == expected
        with pytest.raises(ValueError, match="not in the engine"):
            precise.seal(B, 0, 1, PartKind.TAIL)

    def test_release_in_decode_leaves_the_others_alone(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(280, 1), B: make_prompt(20, 2), C: make_prompt(90, 3)}
        expected = {key: answer_alone(precise, prompt, 14) for key, prompt in prompts.items()}
        for leaver in prompts:
            driver = Driver(precise)
            for key, prompt in prompts.items():
                driver.start(key, prompt)
            driver.steps(4)
            gone = driver.release(leaver)
            driver.steps(5)
            everyone = {leaver: gone} | {key: driver.release(key) for key in list(driver.decoding)}
            for key, answer in everyone.items():
                assert len(answer) >= 4
                assert answer == expected[key][: len(answer)]

    def test_a_released_number_can_be_used_again(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(12)
        expected = answer_alone(executor, prompt, 4)
        driver = Driver(executor)
        for _ in range(2):
            driver.start(A, prompt)
            driver.steps(4)
            assert driver.release(A) == expected

    def test_unknown_sequences_may_be_released(self, executor: ModelExecutor) -> None:
        executor.release(A)
        Driver(executor).start(A, make_prompt(4))
        executor.release(B)
        executor.release(A)
        executor.release(A)

    def test_an_empty_plan_does_nothing(self, executor: ModelExecutor) -> None:
        assert executor.run(StepPlan()).sampled == ()


class TestFailure:
    @pytest.mark.parametrize("when", ["prefill", "decode", "join"])
    def test_after_reset_everything_works_again(self, subject: Subject, when: str) -> None:
        executor = subject.executor
        prompt = make_prompt(50)
        driver = Driver(executor)
        executor.attach(A, (), (), GREEDY)
        driver.prefill(A, prompt[:40])
        blocks = attached(rule_of(executor), [keep(executor, A, 0, 40)], 40)
        driver.prefill(A, prompt[40:], last=True)
        driver.steps(9)
        expected = driver.release(A)
        if when == "prefill":
            executor.attach(A, (), (), GREEDY)
        else:
            driver.start(A, prompt)
            executor.attach(B, (), (), GREEDY)
        failing = PrefillChunk(A if when == "prefill" else B, prompt[:20], last=False)
        subject.break_next_run()
        with pytest.raises(EngineError):
            driver.step(None if when == "decode" else failing)
        executor.reset()
        for sequence in (A, B):
            with pytest.raises(ValueError, match="not in the engine"):
                executor.seal(sequence, 0, 1, PartKind.TAIL)
        again = Driver(executor)
        again.start(A, prompt, blocks=blocks)
        again.steps(9)
        assert again.release(A) == expected

    @pytest.mark.parametrize("decode", [(), (B,), (A, B)])
    def test_a_plan_that_is_not_about_the_running_batch_fails(
        self, executor: ModelExecutor, decode: tuple[SequenceId, ...]
    ) -> None:
        Driver(executor).start(A, make_prompt(5))
        with pytest.raises(EngineError):
            executor.run(StepPlan(decode))

    def test_prefill_of_an_unknown_sequence_fails(self, executor: ModelExecutor) -> None:
        with pytest.raises(EngineError):
            executor.run(StepPlan((), PrefillChunk(A, (1, 2), last=True)))

    def test_reset_when_nothing_happened_does_no_harm(self, executor: ModelExecutor) -> None:
        executor.reset()
        executor.reset()
        assert len(answer_alone(executor, make_prompt(5), 2)) == 2


class TestMlx:
    @pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_oss", "qwen3_next"])
    def test_kv_that_only_some_layers_have_is_never_kept(self, name: str) -> None:
        subject = mlx_subject(name)
        executor = subject.executor
        executor.attach(A, (), (), GREEDY)
        executor.run(StepPlan((), PrefillChunk(A, make_prompt(20), last=False)))
        subject.break_next_run()
        with pytest.raises(EngineError):
            executor.run(StepPlan((), PrefillChunk(A, make_prompt(20), last=False)))
        for kind in (PartKind.TAIL, *rule_of(executor).extras):
            with pytest.raises(EngineError, match="not all layers"):
                executor.seal(A, 0, 40, kind)

    @pytest.mark.parametrize("name", NESTED)
    def test_layers_that_keep_several_caches_are_restored(self, name: str) -> None:
        executor = mlx_subject(name).executor
        prompt = make_prompt(280)
        driver = Driver(executor)
        blocks = blocks_of(executor, prompt[:270])
        driver.start(A, prompt, cuts=(256, 270))
        driver.steps(12)
        left = exported(executor, keep(executor, A, 0, 292))
        answer = driver.release(A)
        for position in (256, 270):
            used = [through_bytes(executor, executor, one) for one in blocks]
            attach = attached(rule_of(executor), used, position)
            driver.start(B, prompt, cuts=(256, 270), blocks=attach)
            driver.steps(12)
            assert exported(executor, keep(executor, B, 0, 292)) == left
            assert driver.release(B) == answer

    @pytest.mark.parametrize("name", CONFIGS)
    def test_parts_keep_no_more_memory_than_they_say(self, name: str) -> None:
        executor = mlx_subject(name).executor
        answer_alone(executor, make_prompt(5), 1)
        mx.clear_cache()
        before = mx.get_active_memory()
        Driver(executor).start(A, make_prompt(1000), cuts=(744,))
        block = keep(executor, A, 744, 1000)
        executor.reset()
        said = sum(handle.nbytes for handle in block.kinds.values())
        # One page more for each array, as the device gives memory out.
        pages = 16384 * sum(len(tensors) for tensors in exported(executor, block).values())
        assert mx.get_active_memory() - before <= said + pages


class TestWithoutMemory:
    """Models whose KV cannot be kept are served all the same, and nothing of theirs is kept."""

    @pytest.fixture(params=["scripted", "llama", "gemma3_text", "qwen3_next"])
    def forgetful(self, request: pytest.FixtureRequest) -> ModelExecutor:
        if request.param == "scripted":
            return ScriptedExecutor(spec=None)
        model = random_models.make_model(CONFIGS[request.param])
        known = random_models.capabilities(model, max_batch=1)
        return MlxExecutor(model, replace(known, granularity=Granularity.NONE, spec=None))

    def test_says_so_and_keeps_nothing(self, forgetful: ModelExecutor) -> None:
        assert forgetful.capabilities.granularity is Granularity.NONE
        assert forgetful.capabilities.spec is None
        prompt = make_prompt(30)
        driver = Driver(forgetful)
        driver.start(A, prompt, cuts=(16,))
        for kind in PartKind:
            with pytest.raises(IncompatibleCacheError):
                forgetful.seal(A, 0, 16, kind)
            with pytest.raises(IncompatibleCacheError):
                forgetful.import_part(kind, (), 16)
        driver.steps(20)
        answer = driver.release(A)
        assert len(set(answer)) > 1
        driver.start(A, prompt, cuts=(16,))
        driver.steps(20)
        assert driver.release(A) == answer


class TestDefaultModel:
    """The real model's weights, so that equality is not an accident of tiny shapes."""

    def test_restored_runs_equal_the_uninterrupted_one(self, default_model_dir: Path) -> None:
        model, _ = load_weights(default_model_dir)
        executor = MlxExecutor(model, random_models.capabilities(model))
        prompt = make_prompt(264)
        driver = Driver(executor)
        driver.start(A, prompt, cuts=(256,))
        driver.steps(3)
        block = through_bytes(executor, executor, keep(executor, A, 0, 256))
        early = exported(executor, keep(executor, A, 0, 267))
        driver.steps(5)
        answer = driver.release(A)
        rule = rule_of(executor)
        driver.start(B, prompt, blocks=attached(rule, [block], 256))
        driver.steps(3)
        assert exported(executor, keep(executor, B, 0, 267)) == early
        # A neighbour that joins: another batch shape, the same tokens.
        driver.start(C, prompt[:40], blocks=attached(rule, [block], 39))
        driver.steps(4)
        assert driver.release(B) == answer
        assert len(driver.release(C)) == 4


class TestMisuseOfTheScriptedExecutor:
    def test_wrong_tokens_are_noticed(self) -> None:
        executor = ScriptedExecutor()
        prompt = make_prompt(20)
        Driver(executor).start(A, prompt)
        block = AttachedBlock(sealed(executor, 0, 16, PartKind.TAIL), 16)
        executor.attach(B, prompt[:16], [block], GREEDY)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(C, (*prompt[:15], prompt[15] + 1), [block], GREEDY)

    def test_blocks_in_another_place_are_noticed(self) -> None:
        executor = ScriptedExecutor()
        Driver(executor).start(A, (1,) * 20)
        second = AttachedBlock(sealed(executor, 8, 16, PartKind.TAIL), 8)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, (1,) * 8, [second], GREEDY)

    def test_the_scripted_run_fails_and_nothing_but_reset_helps(self) -> None:
        executor = ScriptedExecutor(fail_on_run=2)
        driver = Driver(executor)
        driver.start(A, (1, 2))
        with pytest.raises(EngineError):
            driver.step()
        with pytest.raises(MisuseError):
            executor.seal(A, 0, 1, PartKind.TAIL)
        executor.reset()
        assert executor.sequences == frozenset()

    def test_attaching_twice_is_noticed(self) -> None:
        executor = ScriptedExecutor()
        executor.attach(A, (), (), GREEDY)
        with pytest.raises(MisuseError):
            executor.attach(A, (), (), GREEDY)

    def test_another_thread_is_noticed(self) -> None:
        executor = ScriptedExecutor()
        executor.reset()
        with ThreadPoolExecutor(1) as pool, pytest.raises(MisuseError):
            pool.submit(executor.reset).result()


class TestSampling:
    """What is drawn from the logits has nothing to do with how layers remember."""

    @pytest.fixture(params=["scripted-uniform", "llama", "llama-bfloat16"])
    def executor(self, request: pytest.FixtureRequest) -> ModelExecutor:
        return ALL[request.param]().executor

    @pytest.fixture(params=["scripted-uniform", "llama"])
    def precise(self, request: pytest.FixtureRequest) -> ModelExecutor:
        return ALL[request.param]().executor

    WARM = SamplingParams(temperature=1.0, seed=7)

    def test_a_seed_gives_the_same_answer_again(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(10)
        answers = [answer_alone(executor, prompt, 16, self.WARM) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0] != answer_alone(executor, prompt, 16, replace(self.WARM, seed=8))

    @pytest.mark.parametrize("seed", [0, 2**32, 2**64 - 1])
    def test_any_seed_will_do(self, executor: ModelExecutor, seed: int) -> None:
        sampling = replace(self.WARM, seed=seed)
        assert len(answer_alone(executor, make_prompt(4), 3, sampling)) == 3

    def test_without_a_seed_answers_differ(self, executor: ModelExecutor) -> None:
        sampling = SamplingParams(temperature=2.0)
        assert len({answer_alone(executor, make_prompt(10), 24, sampling) for _ in range(3)}) > 1

    def test_neighbours_change_nothing(self, precise: ModelExecutor) -> None:
        prompt = make_prompt(40, 1)
        expected = answer_alone(precise, prompt, 12, self.WARM)
        driver = Driver(precise)
        driver.start(A, make_prompt(60, 2), sampling=replace(self.WARM, seed=1))
        driver.start(B, prompt, sampling=self.WARM)
        driver.start(C, make_prompt(4, 3))
        driver.steps(5)
        driver.release(A)
        driver.steps(6)
        assert driver.release(B) == expected

    @pytest.mark.parametrize("top_p", [1e-3, 1e-9, 1e-50])
    def test_a_tiny_nucleus_is_greedy(self, executor: ModelExecutor, top_p: float) -> None:
        prompt = make_prompt(10)
        sampling = SamplingParams(temperature=1.0, top_p=top_p, seed=3)
        assert answer_alone(executor, prompt, 12, sampling) == answer_alone(executor, prompt, 12)

    @pytest.mark.parametrize("temperature", [1e-3, 1e-9, 1e-40, 5e-324])
    @pytest.mark.parametrize("top_p", [1.0, 0.9])
    def test_almost_no_temperature_is_greedy(
        self, precise: ModelExecutor, temperature: float, top_p: float
    ) -> None:
        prompt = make_prompt(10)
        sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=3)
        assert answer_alone(precise, prompt, 12, sampling) == answer_alone(precise, prompt, 12)

    def test_almost_no_temperature_is_greedy_in_half_precision(self) -> None:
        executor = mlx_subject("llama", mx.float16).executor
        prompt = make_prompt(10)
        sampling = SamplingParams(temperature=1e-5, top_p=0.9, seed=3)
        assert answer_alone(executor, prompt, 12, sampling) == answer_alone(executor, prompt, 12)

    def test_temperature_spreads_the_choice(self, precise: ModelExecutor) -> None:
        def share_of_the_best(temperature: float) -> float:
            best = answer_alone(precise, (5, 6, 7), 1)
            chosen = [
                answer_alone(
                    precise, (5, 6, 7), 1, SamplingParams(temperature=temperature, seed=seed)
                )
                for seed in range(30)
            ]
            return chosen.count(best) / len(chosen)

        assert share_of_the_best(0.05) > 0.9
        assert share_of_the_best(0.05) > share_of_the_best(1.0) + 0.1
        assert share_of_the_best(1.0) > share_of_the_best(2.0)

    def test_a_restored_answer_goes_on_with_the_same_draws(self, precise: ModelExecutor) -> None:
        prompt = make_prompt(40, 1)
        sampling = replace(
            self.WARM, temperature=1.5, repetition_penalty=1.2, frequency_penalty=0.3
        )
        driver = Driver(precise)
        driver.start(A, prompt, sampling=sampling)
        driver.steps(9)
        block = through_bytes(precise, precise, keep(precise, A, 0, 49))
        driver.steps(9)
        answer = driver.release(A)
        used = attached(rule_of(precise), [block], 49)
        for drawn in (9, 10, 15):
            # With the KV of 49 tokens; what is known beyond them is prefilled again.
            driver.start(
                B,
                prompt + answer[: drawn + 1],
                blocks=used,
                sampling=sampling,
                generated=answer[: drawn + 1],
            )
            driver.steps(17 - drawn)
            assert driver.release(B) == answer[drawn + 1 :]

    def test_the_number_of_the_draw_matters(self, precise: ModelExecutor) -> None:
        sampling = replace(self.WARM, temperature=2.0)
        answers = set()
        for drawn in range(8):
            driver = Driver(precise)
            driver.start(A, make_prompt(10), sampling=sampling, generated=[0] * drawn)
            driver.steps(4)
            answers.add(driver.release(A))
        assert len(answers) > 4

    def test_neighbours_of_every_kind_change_nothing(self, precise: ModelExecutor) -> None:
        kinds = {
            A: GREEDY,
            B: replace(self.WARM, top_k=5, logprobs=3),
            C: replace(self.WARM, top_p=0.8, presence_penalty=1.0, logit_bias=((3, 2.0),)),
            D: replace(self.WARM, temperature=1.7, min_p=0.02, repetition_penalty=1.3),
        }
        alone = {
            key: answer_alone(precise, make_prompt(20, key), 10, one) for key, one in kinds.items()
        }
        driver = Driver(precise)
        for key, one in kinds.items():
            driver.start(key, make_prompt(20, key), sampling=one)
        driver.steps(7)
        together = {key: driver.release(key) for key in kinds}
        assert all(alone[key][: len(answer)] == answer for key, answer in together.items() if key)
        assert together[A] == answer_alone(precise, make_prompt(20, A), len(together[A]))

    @pytest.mark.parametrize("change", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}])
    def test_what_leaves_one_token_is_greedy(
        self, executor: ModelExecutor, change: dict[str, float]
    ) -> None:
        prompt = make_prompt(10)
        sampling = replace(self.WARM, temperature=2.0, **change)  # type: ignore[arg-type]
        assert answer_alone(executor, prompt, 12, sampling) == answer_alone(executor, prompt, 12)

    @staticmethod
    def scored(
        executor: ModelExecutor, prompt: Tokens, count: int, sampling: SamplingParams
    ) -> tuple[Tokens, list[TokenLogprobs]]:
        driver = Driver(executor)
        driver.start(A, prompt, sampling=sampling)
        driver.steps(count)
        told = [one for one in driver.logprobs[A] if one is not None]
        return driver.release(A), told

    def test_logprobs_are_told_where_they_are_asked_for(self, executor: ModelExecutor) -> None:
        driver = Driver(executor)
        driver.start(A, make_prompt(10), sampling=replace(GREEDY, logprobs=0))
        driver.start(B, make_prompt(10))
        driver.start(C, make_prompt(10), sampling=replace(self.WARM, logprobs=20))
        driver.steps(4)
        assert all(one is not None and one.top == () for one in driver.logprobs[A])
        assert set(driver.logprobs[B]) == {None}
        assert all(one is not None and len(one.top) == 20 for one in driver.logprobs[C])

    def test_logprobs_are_those_of_the_tokens(self, executor: ModelExecutor) -> None:
        answer, told = self.scored(executor, make_prompt(10), 12, replace(GREEDY, logprobs=20))
        assert len(told) == len(answer)
        for token, one in zip(answer, told, strict=True):
            assert one.top[0] == (token, one.logprob)
            assert [score for _, score in one.top] == sorted(
                (score for _, score in one.top), reverse=True
            )
            assert 0 < sum(math.exp(score) for _, score in one.top) <= 1 + 1e-5

    @pytest.mark.parametrize(("field", "value"), [("top_k", 3), ("top_p", 0.7), ("min_p", 0.3)])
    def test_only_what_is_left_is_drawn(
        self, precise: ModelExecutor, field: str, value: float
    ) -> None:
        """Measured by the distribution that is told, whose temperature is 1."""
        sampling = replace(self.WARM, logprobs=20, **{field: value})  # type: ignore[arg-type]
        answer, told = self.scored(precise, make_prompt(10), 60, sampling)
        ranks = []
        for token, one in zip(answer, told, strict=True):
            ranks.append([other for other, _ in one.top].index(token))
            before = sum(math.exp(score) for _, score in one.top[: ranks[-1]])
            if field == "top_k":
                assert ranks[-1] < 3
            elif field == "top_p":
                assert before < 0.7 + 1e-5 or ranks[-1] == 0
            else:
                assert one.logprob >= one.top[0][1] + math.log(0.3) - 1e-5
        assert max(ranks) > 0

    def test_bias_and_penalties_move_logprobs_as_they_say(self, precise: ModelExecutor) -> None:
        prompt = (*make_prompt(10), 7, 7, 8)
        plain = replace(GREEDY, logprobs=20, logit_bias=((7, 50.0), (8, 50.0), (9, 50.0)))
        _, (before, *_) = self.scored(precise, prompt, 1, plain)
        changed = replace(
            plain,
            logit_bias=((7, 50.0), (8, 51.5), (9, 50.0)),
            presence_penalty=1.25,
            frequency_penalty=0.5,
        )
        _, (after, *_) = self.scored(precise, prompt, 1, changed)
        old, new = dict(before.top), dict(after.top)
        count = prompt.count
        seven = -1.25 - 0.5 * count(7)
        eight = 1.5 - 1.25 - 0.5 * count(8)
        nine = (-1.25 - 0.5 * count(9)) if count(9) else 0.0
        moved = {token: new[token] - old[token] for token in (7, 8, 9)}
        assert moved[7] - moved[9] == pytest.approx(seven - nine, abs=1e-4)
        assert moved[8] - moved[9] == pytest.approx(eight - nine, abs=1e-4)

    def test_a_banned_token_never_comes_and_a_wanted_one_always(
        self, executor: ModelExecutor
    ) -> None:
        prompt = make_prompt(10)
        plain = answer_alone(executor, prompt, 8)
        banned = replace(GREEDY, logit_bias=tuple((token, -100.0) for token in set(plain)))
        assert not set(answer_alone(executor, prompt, 8, banned)) & set(plain)
        wanted = replace(self.WARM, logit_bias=((42, 100.0),))
        assert answer_alone(executor, prompt, 8, wanted) == (42,) * 8

    def test_penalties_count_the_answer_as_it_grows(self, precise: ModelExecutor) -> None:
        """Each token may come once more for every 2 of its bias."""
        wanted = tuple((token, bias) for token, bias in ((40, 46.0), (41, 45.0)))
        sampling = replace(GREEDY, logit_bias=wanted, frequency_penalty=2.0)
        prompt = tuple(token for token in make_prompt(30) if token not in (40, 41))
        answer = answer_alone(precise, prompt, 12, sampling)
        assert set(answer) == {40, 41}
        assert answer != tuple(sorted(answer))

    def test_a_repetition_penalty_ends_repetition(self, precise: ModelExecutor) -> None:
        sampling = replace(GREEDY, repetition_penalty=50.0)
        prompt = (1, 2, 3)
        answer = answer_alone(precise, prompt, 20, sampling)
        assert len(set(answer)) == 20
        assert not set(answer) & set(prompt)
