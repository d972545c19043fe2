"""What every model executor does. Each implementation is run through the same tests.

Equality is token for token and, for KV, byte for byte: same blocks, same chunks, same batch shape
(the equality promise, b). Sequences that share a batch are compared with running alone in float32
only, where the last bits do not decide.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from tests.fakes import random_models
from tests.fakes.scripted_executor import MisuseError, ScriptedExecutor

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.adapters.outbound.mlx.model_loader import load_weights
from semantic.domain.block import Part
from semantic.domain.cache_spec import Granularity
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock, BlockHandle, ModelExecutor

Tokens = tuple[TokenId, ...]

GREEDY = SamplingParams(temperature=0)
A, B, C, D = (SequenceId(number) for number in range(4))
BLOCK = 256


@dataclass(frozen=True, slots=True)
class Subject:
    """An executor, and how to make its next run fail."""

    executor: ModelExecutor
    break_next_run: Callable[[], None]


class FailingLayer(Module):
    """The last layer of a model, raising when told to: the layers before have run by then."""

    def __init__(self, layer: Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx is untyped here
        self.layer = layer
        self.use_sliding = False
        self.armed = False

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.armed:
            self.armed = False
            raise RuntimeError("out of memory")
        return self.layer(*args, **kwargs)


def tiny_llama(dtype: mx.Dtype) -> Subject:
    model = random_models.make_model(random_models.LLAMA, dtype=dtype)
    capabilities = random_models.capabilities(model)
    last = FailingLayer(model.model.layers[-1])
    model.model.layers[-1] = last
    return Subject(MlxExecutor(model, capabilities), lambda: setattr(last, "armed", True))


def scripted() -> Subject:
    executor = ScriptedExecutor()
    return Subject(executor, lambda: setattr(executor, "fail_on_run", len(executor.plans) + 1))


Maker = Callable[[], Subject]
IN_FLOAT32: dict[str, Maker] = {"scripted": scripted, "llama": lambda: tiny_llama(mx.float32)}
ALL: dict[str, Maker] = {**IN_FLOAT32, "llama-bfloat16": lambda: tiny_llama(mx.bfloat16)}


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


@dataclass
class Engine:
    """Drives an executor as the engine loop does: every step decodes all that decode."""

    executor: ModelExecutor
    decoding: list[SequenceId] = field(default_factory=list)
    answers: dict[SequenceId, list[TokenId]] = field(default_factory=dict)

    def start(
        self,
        sequence: SequenceId,
        prompt: Tokens,
        *,
        cuts: Sequence[int] = (),
        blocks: Sequence[AttachedBlock] = (),
        sampling: SamplingParams = GREEDY,
    ) -> None:
        """Attach and prefill; a chunk ends at each of `cuts`. Who decodes goes on meanwhile."""
        position = sum(block.length for block in blocks)
        self.executor.attach(sequence, prompt[:position], blocks, sampling)
        for end in (*(cut for cut in cuts if cut > position), len(prompt)):
            last = end == len(prompt)
            self.step(PrefillChunk(sequence, prompt[position:end], last))
            position = end
        self.decoding.append(sequence)
        self.answers[sequence] = []

    def step(self, prefill: PrefillChunk | None = None) -> None:
        result = self.executor.run(StepPlan(tuple(self.decoding), prefill))
        assert sorted(token.sequence for token in result.sampled) == sorted(self.decoding)
        for sampled in result.sampled:
            self.answers[sampled.sequence].append(sampled.token)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def release(self, sequence: SequenceId) -> Tokens:
        """Release it; return what it answered."""
        self.executor.release(sequence)
        self.decoding.remove(sequence)
        return tuple(self.answers.pop(sequence))


def make_prompt(length: int, seed: int = 0) -> Tokens:
    return tuple(random.Random(seed).choices(range(random_models.VOCABULARY), k=length))  # noqa: S311 - an example


def answer_alone(
    executor: ModelExecutor, prompt: Tokens, count: int, sampling: SamplingParams = GREEDY
) -> Tokens:
    engine = Engine(executor)
    engine.start(D, prompt, sampling=sampling)
    engine.steps(count)
    return engine.release(D)


def seal_blocks(executor: ModelExecutor, sequence: SequenceId, end: int) -> list[BlockHandle]:
    bounds = [*range(0, end, BLOCK), end]
    return [executor.seal(sequence, start, stop) for start, stop in pairwise(bounds)]


def leading(blocks: Sequence[BlockHandle], length: int) -> list[AttachedBlock]:
    """The first `length` tokens of consecutive blocks."""
    used = []
    for block in blocks:
        if length > 0:
            used.append(AttachedBlock(block, min(length, block.num_tokens)))
        length -= block.num_tokens
    return used


def through_bytes(executor: ModelExecutor, blocks: Sequence[BlockHandle]) -> list[BlockHandle]:
    return [executor.import_parts(executor.export(block), block.num_tokens) for block in blocks]


class TestBlocks:
    def test_come_back_bit_for_bit(self, executor: ModelExecutor) -> None:
        Engine(executor).start(A, make_prompt(300))
        block = executor.seal(A, 7, 263)
        parts = executor.export(block)
        returned = executor.import_parts(parts, 256)
        assert executor.export(returned) == parts
        assert (returned.num_tokens, returned.nbytes) == (block.num_tokens, block.nbytes)

    def test_are_as_the_spec_says(self, executor: ModelExecutor) -> None:
        spec = executor.capabilities.spec
        assert spec is not None
        Engine(executor).start(A, make_prompt(20))
        block = executor.seal(A, 4, 17)
        parts = {part.name: part for part in executor.export(block)}
        for name, dim in (("keys", spec.key_dim), ("values", spec.value_dim)):
            assert parts[name].dtype == spec.dtype
            assert parts[name].shape == (spec.num_layers, 1, spec.num_kv_heads, 13, dim)
        assert block.nbytes == sum(len(part.data) for part in parts.values()) == spec.bytes_for(13)

    @pytest.mark.parametrize(
        "bits", [b"\x01\x00\xa0\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"]
    )
    def test_keep_bits_that_arithmetic_would_change(
        self, executor: ModelExecutor, bits: bytes
    ) -> None:
        spec = executor.capabilities.spec
        assert spec is not None
        parts = tuple(
            Part(name, spec.dtype, shape, (bits * (spec.bytes_for(4) // 8)))
            for name, shape in (
                ("keys", (spec.num_layers, 1, spec.num_kv_heads, 4, spec.key_dim)),
                ("values", (spec.num_layers, 1, spec.num_kv_heads, 4, spec.value_dim)),
            )
        )
        assert executor.export(executor.import_parts(parts, 4)) == parts

    def test_do_not_change_when_their_sequence_goes_on(self, executor: ModelExecutor) -> None:
        engine = Engine(executor)
        engine.start(A, make_prompt(300))
        block = executor.seal(A, 0, 256)
        before = executor.export(block)
        engine.steps(20)
        engine.release(A)
        executor.reset()
        assert executor.export(block) == before

    def test_do_not_change_when_they_are_continued(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(40)
        Engine(executor).start(A, prompt)
        block = executor.seal(A, 0, 32)
        before = executor.export(block)
        executor.reset()
        engine = Engine(executor)
        for sequence, length in ((A, 32), (B, 31), (C, 5)):
            engine.start(sequence, prompt, blocks=[AttachedBlock(block, length)])
        engine.steps(3)
        assert executor.export(block) == before

    def test_hold_generated_tokens_as_well(self, executor: ModelExecutor) -> None:
        engine = Engine(executor)
        prompt = make_prompt(10)
        engine.start(A, prompt)
        engine.steps(6)
        blocks = [executor.seal(A, 0, 16)]
        engine.steps(5)
        answer = engine.release(A)
        # The 17th token was chosen before sealing, its KV came after.
        engine.start(B, prompt + answer[:7], blocks=leading(blocks, 16))
        engine.steps(4)
        assert engine.release(B) == answer[7:]

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (-1, 5), (5, 5), (6, 5), (10, 12)])
    def test_only_computed_positions_can_be_sealed(
        self, executor: ModelExecutor, start: int, end: int
    ) -> None:
        Engine(executor).start(A, make_prompt(10))
        with pytest.raises(ValueError, match="computed"):
            executor.seal(A, start, end)

    def test_only_known_sequences_can_be_sealed(self, executor: ModelExecutor) -> None:
        with pytest.raises(ValueError, match="not in the engine"):
            executor.seal(A, 0, 1)

    def test_can_be_sealed_between_chunks_of_prefill(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(30)
        executor.attach(A, (), (), GREEDY)
        executor.run(StepPlan((), PrefillChunk(A, prompt[:20], last=False)))
        early = executor.export(executor.seal(A, 0, 20))
        executor.run(StepPlan((), PrefillChunk(A, prompt[20:], last=True)))
        assert executor.export(executor.seal(A, 0, 20)) == early

    @pytest.mark.parametrize("wrong", ["name", "dtype", "shape", "bytes", "missing", "twice"])
    def test_other_models_blocks_are_refused(self, executor: ModelExecutor, wrong: str) -> None:
        Engine(executor).start(A, make_prompt(8))
        keys, values = executor.export(executor.seal(A, 0, 8))
        changed = {
            "name": (replace(keys, name="other"), values),
            "dtype": (replace(keys, dtype="F16"), values),
            "shape": (replace(keys, shape=(*keys.shape[:3], 7, keys.shape[4])), values),
            "bytes": (replace(keys, data=keys.data[:-4]), values),
            "missing": (keys,),
            "twice": (keys, values, values),
        }[wrong]
        with pytest.raises(IncompatibleCacheError):
            executor.import_parts(changed, 8)

    def test_the_number_of_tokens_must_be_right(self, executor: ModelExecutor) -> None:
        Engine(executor).start(A, make_prompt(8))
        with pytest.raises(IncompatibleCacheError):
            executor.import_parts(executor.export(executor.seal(A, 0, 8)), 7)


class TestAttach:
    @pytest.mark.parametrize("num_tokens", [0, 15, 17])
    def test_needs_exactly_as_many_tokens_as_blocks_hold(
        self, executor: ModelExecutor, num_tokens: int
    ) -> None:
        prompt = make_prompt(20)
        Engine(executor).start(A, prompt)
        block = executor.seal(A, 0, 16)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, prompt[:num_tokens], [AttachedBlock(block, 16)], GREEDY)

    @pytest.mark.parametrize("length", [0, 17])
    def test_takes_no_more_than_a_block_holds(self, executor: ModelExecutor, length: int) -> None:
        prompt = make_prompt(20)
        Engine(executor).start(A, prompt)
        block = executor.seal(A, 0, 16)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, prompt[:length], [AttachedBlock(block, length)], GREEDY)

    def test_copies_the_tokens(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(20)
        expected = answer_alone(executor, prompt, 5)
        Engine(executor).start(A, prompt)
        block = executor.seal(A, 0, 16)
        executor.reset()
        tokens = list(prompt[:16])
        executor.attach(B, tokens, [AttachedBlock(block, 16)], GREEDY)
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

    def test_blocks_serve_several_sequences_at_once(self, precise: ModelExecutor) -> None:
        shared = make_prompt(256)
        prompts = {A: shared + make_prompt(5, 1), B: shared[:200] + make_prompt(9, 2)}
        expected = {key: answer_alone(precise, prompt, 8) for key, prompt in prompts.items()}
        Engine(precise).start(C, (*shared, 3))
        block = precise.seal(C, 0, 256)
        precise.reset()
        engine = Engine(precise)
        engine.start(A, prompts[A], blocks=[AttachedBlock(block, 256)])
        engine.start(B, prompts[B], blocks=[AttachedBlock(block, 200)])
        engine.steps(8)
        for key, answer in expected.items():
            assert engine.release(key)[:8] == answer


@dataclass(frozen=True, slots=True)
class Uninterrupted:
    """A run that was never stopped: what it answered, what it left behind."""

    answer: Tokens
    blocks: list[BlockHandle]
    everything: tuple[Part, ...]


def run_through(executor: ModelExecutor, prompt: Tokens, cuts: Sequence[int]) -> Uninterrupted:
    engine = Engine(executor)
    engine.start(A, prompt, cuts=cuts)
    engine.steps(9)
    end = len(prompt) + 9
    blocks = seal_blocks(executor, A, end)
    everything = executor.export(executor.seal(A, 0, end))
    return Uninterrupted(engine.release(A), blocks, everything)


class TestRestore:
    """A sequence that continues from blocks, as if it had never stopped."""

    @pytest.mark.parametrize("position", [1, 255, 256, 257, 511, 512, 513])
    def test_equals_the_uninterrupted_run(self, executor: ModelExecutor, position: int) -> None:
        prompt = make_prompt(530)
        whole = run_through(executor, prompt, cuts=(position,))
        blocks = through_bytes(executor, whole.blocks)
        engine = Engine(executor)
        engine.start(B, prompt, blocks=leading(blocks, position))
        engine.steps(9)
        assert executor.export(executor.seal(B, 0, 539)) == whole.everything
        assert engine.release(B) == whole.answer

    @pytest.mark.parametrize("length", [256, 512])
    def test_after_a_prompt_of_whole_blocks(self, executor: ModelExecutor, length: int) -> None:
        prompt = make_prompt(length)
        whole = run_through(executor, prompt, cuts=(length - 1,))
        engine = Engine(executor)
        engine.start(B, prompt, blocks=leading(whole.blocks, length - 1))
        engine.steps(9)
        assert engine.release(B) == whole.answer

    def test_a_prompt_of_whole_blocks_can_be_sealed_with_its_first_token(
        self, executor: ModelExecutor
    ) -> None:
        prompt = make_prompt(512)
        engine = Engine(executor)
        engine.start(A, prompt)
        engine.steps(1)
        blocks = through_bytes(executor, seal_blocks(executor, A, 512))
        engine.steps(6)
        answer = engine.release(A)
        engine.start(B, prompt + answer[:1], blocks=leading(blocks, 512))
        engine.steps(6)
        assert engine.release(B) == answer[1:]

    @pytest.mark.parametrize("make", ALL.values(), ids=list(ALL))
    def test_in_another_engine_of_the_same_model(self, make: Maker) -> None:
        first, second = make().executor, make().executor
        prompt = make_prompt(300)
        whole = run_through(first, prompt, cuts=(256,))
        blocks = [
            second.import_parts(first.export(block), block.num_tokens) for block in whole.blocks
        ]
        engine = Engine(second)
        engine.start(A, prompt, blocks=leading(blocks, 256))
        engine.steps(9)
        assert engine.release(A) == whole.answer

    def test_again_and_again(self, executor: ModelExecutor) -> None:
        """Every turn of a conversation continues from what the turn before left behind."""
        prompt = make_prompt(250)
        engine = Engine(executor)
        engine.start(A, prompt)
        engine.steps(40)
        straight = engine.release(A)
        blocks: list[BlockHandle] = []
        known: Tokens = prompt
        for turn in range(4):
            cached = len(known) - 1 if turn else 0
            engine.start(B, known, blocks=leading(blocks, cached))
            engine.steps(10)
            known = known + tuple(engine.answers[B])
            blocks = through_bytes(executor, seal_blocks(executor, B, len(known)))
            engine.release(B)
        assert known[250:] == straight

    def test_wrong_kv_would_be_noticed(self, executor: ModelExecutor) -> None:
        """These comparisons mean something: other KV gives another answer."""
        prompt, other = make_prompt(40), make_prompt(40, 1)
        engine = Engine(executor)
        engine.start(A, prompt)
        engine.steps(9)
        expected = engine.release(A)
        engine.start(A, other)
        block = executor.seal(A, 0, 30)
        engine.release(A)
        try:
            engine.start(B, prompt, blocks=[AttachedBlock(block, 30)])
        except IncompatibleCacheError:
            return
        engine.steps(9)
        assert engine.release(B) != expected


class TestBatch:
    def test_of_four_ragged_sequences_equals_running_alone(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(3, 1), B: make_prompt(300, 2), C: make_prompt(1, 3)}
        prompts[D] = make_prompt(70, 4)
        expected = {key: answer_alone(precise, prompt, 12) for key, prompt in prompts.items()}
        engine = Engine(precise)
        for key, prompt in prompts.items():
            engine.start(key, prompt)
        engine.steps(12)
        for key, answer in expected.items():
            assert engine.release(key)[:12] == answer

    def test_sequences_join_while_others_decode(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(9, 1), B: make_prompt(290, 2), C: make_prompt(30, 3)}
        expected = {key: answer_alone(precise, prompt, 20) for key, prompt in prompts.items()}
        engine = Engine(precise)
        engine.start(A, prompts[A])
        engine.steps(3)
        engine.start(B, prompts[B], cuts=(64, 128, 256))
        assert len(engine.answers[A]) == 3 + 4
        engine.steps(2)
        engine.start(C, prompts[C], cuts=(10,))
        engine.steps(11)
        for key, answer in expected.items():
            got = engine.release(key)
            assert got[:20] == answer[: len(got)]

    def test_blocks_cut_from_a_batch_continue_alone(self, precise: ModelExecutor) -> None:
        prompts = {A: make_prompt(5, 1), B: make_prompt(260, 2), C: make_prompt(33, 3)}
        engine = Engine(precise)
        for key, prompt in prompts.items():
            engine.start(key, prompt)
        engine.steps(4)
        kept = {}
        for key, prompt in prompts.items():
            known = prompt + tuple(engine.answers[key])
            kept[key] = (known, through_bytes(precise, seal_blocks(precise, key, len(known))))
        engine.steps(7)
        going_on = {key: engine.release(key)[-7:] for key in prompts}
        for key, (known, blocks) in kept.items():
            # The first of them was chosen before sealing, its KV came after.
            answer = going_on[key]
            engine.start(D, known + answer[:1], blocks=leading(blocks, len(known)))
            engine.steps(6)
            assert engine.release(D) == answer[1:]

    def test_release_in_prefill_leaves_the_others_alone(self, precise: ModelExecutor) -> None:
        prompt = make_prompt(50, 1)
        expected = answer_alone(precise, prompt, 6)
        engine = Engine(precise)
        engine.start(A, prompt)
        precise.attach(B, (), (), GREEDY)
        engine.step(PrefillChunk(B, make_prompt(20), last=False))
        precise.release(B)
        engine.steps(5)
        assert engine.release(A) == expected
        with pytest.raises(ValueError, match="not in the engine"):
            precise.seal(B, 0, 1)

    @pytest.mark.parametrize("leaver", [A, B, C])
    def test_release_in_decode_leaves_the_others_alone(
        self, precise: ModelExecutor, leaver: SequenceId
    ) -> None:
        prompts = {A: make_prompt(280, 1), B: make_prompt(20, 2), C: make_prompt(90, 3)}
        expected = {key: answer_alone(precise, prompt, 14) for key, prompt in prompts.items()}
        engine = Engine(precise)
        for key, prompt in prompts.items():
            engine.start(key, prompt)
        engine.steps(4)
        gone = engine.release(leaver)
        engine.steps(5)
        everyone = {leaver: gone} | {key: engine.release(key) for key in list(engine.decoding)}
        for key, answer in everyone.items():
            assert len(answer) >= 4
            assert answer == expected[key][: len(answer)]

    def test_a_released_number_can_be_used_again(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(12)
        expected = answer_alone(executor, prompt, 4)
        engine = Engine(executor)
        for _ in range(2):
            engine.start(A, prompt)
            engine.steps(4)
            assert engine.release(A) == expected

    def test_unknown_sequences_may_be_released(self, executor: ModelExecutor) -> None:
        executor.release(A)
        Engine(executor).start(A, make_prompt(4))
        executor.release(B)
        executor.release(A)
        executor.release(A)

    def test_an_empty_plan_does_nothing(self, executor: ModelExecutor) -> None:
        assert executor.run(StepPlan()).sampled == ()


class TestFailure:
    @pytest.mark.parametrize("when", ["prefill", "decode", "join"])
    def test_after_reset_everything_works_again(self, subject: Subject, when: str) -> None:
        executor = subject.executor
        prompt = make_prompt(300)
        whole = run_through(executor, prompt, cuts=(256,))
        engine = Engine(executor)
        if when == "prefill":
            executor.attach(A, (), (), GREEDY)
        else:
            engine.start(A, prompt)
            executor.attach(B, (), (), GREEDY)
        failing = PrefillChunk(A if when == "prefill" else B, prompt[:20], last=False)
        subject.break_next_run()
        with pytest.raises(EngineError):
            engine.step(None if when == "decode" else failing)
        executor.reset()
        for sequence in (A, B):
            with pytest.raises(ValueError, match="not in the engine"):
                executor.seal(sequence, 0, 1)
        again = Engine(executor)
        again.start(A, prompt, blocks=leading(whole.blocks, 256))
        again.steps(9)
        assert again.release(A) == whole.answer

    @pytest.mark.parametrize("decode", [(), (B,), (A, B)])
    def test_a_plan_that_is_not_about_the_running_batch_fails(
        self, executor: ModelExecutor, decode: tuple[SequenceId, ...]
    ) -> None:
        Engine(executor).start(A, make_prompt(5))
        with pytest.raises(EngineError):
            executor.run(StepPlan(decode))

    def test_prefill_of_an_unknown_sequence_fails(self, executor: ModelExecutor) -> None:
        with pytest.raises(EngineError):
            executor.run(StepPlan((), PrefillChunk(A, (1, 2), last=True)))

    def test_reset_when_nothing_happened_does_no_harm(self, executor: ModelExecutor) -> None:
        executor.reset()
        executor.reset()
        assert len(answer_alone(executor, make_prompt(5), 2)) == 2


class TestMlxFailure:
    def test_kv_that_only_some_layers_have_is_never_kept(self) -> None:
        subject = tiny_llama(mx.float32)
        executor = subject.executor
        executor.attach(A, (), (), GREEDY)
        executor.run(StepPlan((), PrefillChunk(A, make_prompt(20), last=False)))
        subject.break_next_run()
        with pytest.raises(EngineError):
            executor.run(StepPlan((), PrefillChunk(A, make_prompt(20), last=False)))
        with pytest.raises(EngineError, match="not all layers"):
            executor.seal(A, 0, 40)


def tiny_gemma3() -> ModelExecutor:
    model = random_models.make_model(random_models.GEMMA3)
    return MlxExecutor(model, random_models.capabilities(model, max_batch=1))


class TestWithoutMemory:
    """Models whose KV cannot be kept are served all the same, and nothing of theirs is kept."""

    @pytest.fixture(
        params=[lambda: ScriptedExecutor(granularity=Granularity.NONE), tiny_gemma3],
        ids=["scripted", "gemma3"],
    )
    def forgetful(self, request: pytest.FixtureRequest) -> ModelExecutor:
        made: ModelExecutor = request.param()
        return made

    def test_says_so_and_keeps_nothing(self, forgetful: ModelExecutor) -> None:
        assert forgetful.capabilities.granularity is Granularity.NONE
        assert forgetful.capabilities.spec is None
        prompt = make_prompt(30)
        engine = Engine(forgetful)
        engine.start(A, prompt, cuts=(16,))
        with pytest.raises(IncompatibleCacheError):
            forgetful.seal(A, 0, 16)
        with pytest.raises(IncompatibleCacheError):
            forgetful.import_parts((), 16)
        engine.steps(20)
        answer = engine.release(A)
        assert len(set(answer)) > 1
        engine.start(A, prompt, cuts=(16,))
        engine.steps(20)
        assert engine.release(A) == answer


class TestDefaultModel:
    """The real model's weights, so that equality is not an accident of tiny shapes."""

    def test_restored_runs_equal_the_uninterrupted_one(self, default_model_dir: Path) -> None:
        model, _ = load_weights(default_model_dir)
        executor = MlxExecutor(model, random_models.capabilities(model))
        prompt = make_prompt(264)
        engine = Engine(executor)
        engine.start(A, prompt, cuts=(256,))
        engine.steps(3)
        blocks = through_bytes(executor, seal_blocks(executor, A, 256))
        early = executor.export(executor.seal(A, 0, 267))
        engine.steps(5)
        answer = engine.release(A)
        engine.start(B, prompt, blocks=leading(blocks, 256))
        engine.steps(3)
        assert executor.export(executor.seal(B, 0, 267)) == early
        # A neighbour that joins: another batch shape, the same tokens.
        engine.start(C, prompt[:40], blocks=leading(blocks, 39))
        engine.steps(4)
        assert engine.release(B) == answer
        assert len(engine.release(C)) == 4


class TestMisuseOfTheScriptedExecutor:
    def test_wrong_tokens_are_noticed(self) -> None:
        executor = ScriptedExecutor()
        prompt = make_prompt(20)
        Engine(executor).start(A, prompt)
        block = AttachedBlock(executor.seal(A, 0, 16), 16)
        executor.attach(B, prompt[:16], [block], GREEDY)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(C, (*prompt[:15], prompt[15] + 1), [block], GREEDY)

    def test_blocks_in_another_place_are_noticed(self) -> None:
        executor = ScriptedExecutor()
        Engine(executor).start(A, (1,) * 20)
        second = AttachedBlock(executor.seal(A, 8, 16), 8)
        with pytest.raises(IncompatibleCacheError):
            executor.attach(B, (1,) * 8, [second], GREEDY)

    def test_the_scripted_run_fails_and_nothing_but_reset_helps(self) -> None:
        executor = ScriptedExecutor(fail_on_run=2)
        engine = Engine(executor)
        engine.start(A, (1, 2))
        with pytest.raises(EngineError):
            engine.step()
        with pytest.raises(MisuseError):
            executor.seal(A, 0, 1)
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
        engine = Engine(precise)
        engine.start(A, make_prompt(60, 2), sampling=replace(self.WARM, seed=1))
        engine.start(B, prompt, sampling=self.WARM)
        engine.start(C, make_prompt(4, 3))
        engine.steps(5)
        engine.release(A)
        engine.steps(6)
        assert engine.release(B) == expected

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
        executor = tiny_llama(mx.float16).executor
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
                for seed in range(60)
            ]
            return chosen.count(best) / len(chosen)

        assert share_of_the_best(0.05) > 0.9
        assert share_of_the_best(0.05) > share_of_the_best(1.0) + 0.1
        assert share_of_the_best(1.0) > share_of_the_best(2.0)
