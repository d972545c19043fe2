"""What every model executor does with answers that are held to a form, and with prompts' scores.

Equality is token for token, in float32, as in test_model_executor.py.
"""

import math
from dataclasses import replace

import mlx.core as mx
import pytest
from tests.fakes import random_models
from tests.fakes.engine_driver import GREEDY, Driver, Tokens, answer_alone, make_prompt
from tests.fakes.executor_subjects import CONFIGS, IN_FLOAT32, mlx_subject
from tests.fakes.scripted_constraint import ScriptedConstraint, one, some
from tests.fakes.scripted_executor import ScriptedExecutor

from semantic.adapters.outbound.mlx.masks import masked
from semantic.domain.errors import EngineError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams, TokenLogprobs
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.answer_constraints import Constraint
from semantic.ports.model_executor import ModelExecutor

SCORES_DIFFER = 1e-3 if mx.default_device() == mx.cpu else 2e-2
"""At most, by how a prompt is cut: a GPU multiplies float32 in fewer bits (measured: 6e-3)."""
A, B, C, D = (SequenceId(number) for number in range(4))
WARM = SamplingParams(temperature=1.3, seed=5)
KINDS = {
    "greedy": GREEDY,
    "warm": WARM,
    "top_k": replace(WARM, top_k=4),
    "top_p": replace(WARM, top_p=0.6, temperature=1.0),
    "min_p": replace(WARM, min_p=0.3),
    "penalised": replace(WARM, frequency_penalty=1.0, logit_bias=((3, 5.0),)),
    "all of them": replace(WARM, top_k=30, top_p=0.9, min_p=0.01, presence_penalty=0.5),
}
SUBJECTS = ("scripted-uniform", "llama", "gpt_oss", "qwen3_next")


@pytest.fixture(params=SUBJECTS)
def executor(request: pytest.FixtureRequest) -> ModelExecutor:
    return IN_FLOAT32[request.param]().executor


def alone(
    executor: ModelExecutor,
    prompt: Tokens,
    count: int,
    sampling: SamplingParams,
    constraint: Constraint | None,
) -> Tokens:
    driver = Driver(executor)
    driver.start(D, prompt, sampling=sampling, constraint=constraint)
    driver.steps(count)
    return driver.release(D)


def held(answer: Tokens, constraint: ScriptedConstraint) -> bool:
    """Whether every token was allowed after those before it."""
    return all(
        allowed is None or token in allowed
        for place, token in enumerate(answer)
        for allowed in [constraint.allows(answer[:place])]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_allowed_is_chosen(executor: ModelExecutor, kind: str) -> None:
    constraint = ScriptedConstraint()
    answer = alone(executor, make_prompt(20), 12, KINDS[kind], constraint)
    assert held(answer, constraint)
    assert len(set(answer)) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_allowed_token_comes(executor: ModelExecutor, kind: str) -> None:
    constraint = ScriptedConstraint(one)
    answer = alone(executor, make_prompt(20), 12, KINDS[kind], constraint)
    assert held(answer, constraint)


def test_what_allows_everything_changes_nothing(executor: ModelExecutor) -> None:
    free = ScriptedConstraint(lambda _: None)
    full = ScriptedConstraint(lambda _: frozenset(range(101)))
    for sampling in (GREEDY, WARM, KINDS["top_k"]):
        plain = replace(sampling, logprobs=0)
        expected = alone(executor, make_prompt(20), 10, plain, None)
        assert alone(executor, make_prompt(20), 10, plain, free) == expected
        assert alone(executor, make_prompt(20), 10, plain, full) == expected


def test_a_ragged_batch_with_and_without_forms_equals_each_alone(executor: ModelExecutor) -> None:
    kinds: dict[SequenceId, tuple[SamplingParams, ScriptedConstraint | None]] = {
        A: (KINDS["top_p"], ScriptedConstraint()),
        B: (WARM, None),
        C: (GREEDY, ScriptedConstraint(one)),
        D: (KINDS["all of them"], ScriptedConstraint(lambda history: some(history[-2:]))),
    }
    prompts = {key: make_prompt(9 + 13 * key, key) for key in kinds}
    expected = {key: alone(executor, prompts[key], 16, *kind) for key, kind in kinds.items()}
    driver = Driver(executor)
    for key, (sampling, constraint) in kinds.items():
        driver.start(key, prompts[key], sampling=sampling, constraint=constraint)
        driver.steps(2)
    answers = {}
    for key in (C, A, D, B):  # each leaves a batch of another shape behind
        driver.steps(2)
        answers[key] = driver.release(key)
    for key, answer in answers.items():
        assert answer == expected[key][: len(answer)]


def test_neighbours_with_forms_change_no_bit_of_others(executor: ModelExecutor) -> None:
    sampling = replace(WARM, logprobs=5)

    def run(constraint: Constraint | None) -> tuple[Tokens, list[TokenLogprobs | None]]:
        driver = Driver(executor)
        driver.start(A, make_prompt(20), sampling=sampling)
        driver.start(B, make_prompt(12, 1), sampling=GREEDY, constraint=constraint)
        first = driver.answers[A][:]
        driver.steps(1)  # what the neighbour chooses differs from here on, so only one step
        told = driver.logprobs[A][:]
        answer = driver.release(A)
        driver.release(B)
        assert len(answer) == len(first) + 1
        return answer, told

    assert run(None) == run(ScriptedConstraint())


def test_logprobs_tell_of_all_tokens(executor: ModelExecutor) -> None:
    """Those that could not be drawn as well."""
    driver = Driver(executor)
    sampling = replace(WARM, logprobs=20)
    driver.start(A, make_prompt(20), sampling=sampling, constraint=ScriptedConstraint(one))
    driver.start(B, make_prompt(20), sampling=sampling)
    driver.steps(1)
    told, free = driver.logprobs[A][0], driver.logprobs[B][0]
    assert told is not None
    assert free is not None
    assert [token for token, _ in told.top] == [token for token, _ in free.top]
    assert [score for _, score in told.top] == pytest.approx([score for _, score in free.top])
    assert told.logprob < 0
    driver.release(A)
    driver.release(B)


@pytest.mark.parametrize("seen", [0, 1, 5])
def test_an_answer_that_was_interrupted_goes_on_as_it_would_have(
    executor: ModelExecutor, seen: int
) -> None:
    prompt, constraint = make_prompt(30), ScriptedConstraint()
    for sampling in (GREEDY, KINDS["top_p"]):
        expected = alone(executor, prompt, 12, sampling, constraint)
        driver = Driver(executor)
        driver.start(A, prompt, sampling=sampling, constraint=constraint)
        driver.steps(seen)
        chosen = executor.chosen(A)
        assert chosen is not None
        told = (*driver.release(A), chosen.token)
        assert told == expected[: seen + 1]
        again = Driver(executor)
        again.start(B, prompt + told, sampling=sampling, generated=told, constraint=constraint)
        again.steps(12 - len(told))
        assert told + again.release(B) == expected


def test_every_answer_has_a_mask_of_its_own(executor: ModelExecutor) -> None:
    constraint = ScriptedConstraint()
    driver = Driver(executor)
    for key in (A, B):
        driver.start(key, make_prompt(20), sampling=WARM, constraint=constraint)
    driver.steps(5)
    found = {key: driver.release(key) for key in (A, B)}
    assert found[A][:5] == found[B][:5]
    assert len(constraint.masks) == 2


def test_what_was_generated_must_have_been_allowed(executor: ModelExecutor) -> None:
    constraint = ScriptedConstraint(one)
    (token,) = one(())
    wrong = TokenId((token + 1) % 101)
    with pytest.raises(EngineError):
        executor.attach(A, (), (), GREEDY, (wrong,), constraint)
    executor.attach(A, (), (), GREEDY, (token,), constraint)
    executor.release(A)


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_a_mask_that_fails_names_its_sequence(executor: ModelExecutor, fails_at: int) -> None:
    driver = Driver(executor)
    driver.start(A, make_prompt(20), constraint=ScriptedConstraint())

    def run() -> None:
        driver.start(B, make_prompt(12), constraint=ScriptedConstraint(fails_at=fails_at))
        driver.steps(fails_at + 1)

    with pytest.raises(EngineError) as caught:
        run()
    assert caught.value.suspects == (B,)
    executor.reset()
    assert len(answer_alone(executor, make_prompt(12), 3)) == 3


def test_a_token_that_the_model_rules_out_comes_if_it_must() -> None:
    logprobs = mx.array([[-mx.inf, 0.0, -mx.inf], [-1.0, -2.0, -mx.inf]])
    found = masked(logprobs, [bytes([0b100]), None])
    assert mx.argmax(found, axis=-1).tolist() == [2, 0]
    assert mx.array_equal(found[1], logprobs[1])
    assert found[0, 1].item() == -math.inf


class TestPromptScores:
    SCORED = replace(GREEDY, prompt_logprobs=3)

    @pytest.mark.parametrize("cuts", [(), (1,), (299,), (64, 65, 256), (256, 299)])
    def test_are_those_of_every_token_after_the_first(
        self, executor: ModelExecutor, cuts: tuple[int, ...]
    ) -> None:
        prompt = make_prompt(300)
        driver = Driver(executor)
        driver.start(A, prompt, cuts=cuts, sampling=self.SCORED)
        driver.release(A)
        whole = Driver(executor)
        whole.start(A, prompt, sampling=self.SCORED)
        whole.release(A)
        assert len(driver.scored) == len(prompt) - 1
        for found, expected in zip(driver.scored, whole.scored, strict=True):
            assert found.logprob == pytest.approx(expected.logprob, abs=SCORES_DIFFER)
            assert len(found.top) == 3
            assert [score for _, score in found.top] == sorted(
                (score for _, score in found.top), reverse=True
            )

    def test_change_no_answer(self, executor: ModelExecutor) -> None:
        prompt = make_prompt(300)
        driver = Driver(executor)
        driver.start(A, prompt, cuts=(256,), sampling=self.SCORED)
        driver.start(B, make_prompt(20, 1))
        driver.steps(6)
        answers = driver.release(A), driver.release(B)
        assert answers[0] == answer_alone(executor, prompt, 7)
        assert answers[1] == answer_alone(executor, make_prompt(20, 1), 6)
        assert len(driver.scored) == len(prompt) - 1

    def test_are_told_of_nobody_who_does_not_ask(self, executor: ModelExecutor) -> None:
        driver = Driver(executor)
        driver.start(A, make_prompt(20))
        assert driver.scored == []
        driver.release(A)

    def test_of_a_single_token_are_none(self, executor: ModelExecutor) -> None:
        driver = Driver(executor)
        driver.start(A, (3,), sampling=self.SCORED)
        assert driver.scored == []
        driver.release(A)

    @pytest.mark.parametrize("name", ["llama", "gpt_oss", "qwen3_next"])
    def test_equal_a_plain_forward_pass(self, name: str) -> None:
        prompt = make_prompt(300)
        model = random_models.make_model(CONFIGS[name], dtype=mx.float32)
        logits = model(mx.array([prompt]))[0]
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        driver = Driver(mlx_subject(name).executor)
        driver.start(A, prompt, cuts=(100, 256), sampling=self.SCORED)
        for place, found in enumerate(driver.scored):
            row = logprobs[place].tolist()
            assert isinstance(row, list)
            assert found.logprob == pytest.approx(row[prompt[place + 1]], abs=SCORES_DIFFER)
            assert [score for _, score in found.top] == pytest.approx(
                sorted(row, reverse=True)[:3], abs=SCORES_DIFFER
            )


def test_a_failed_prompt_leaves_no_scores_behind() -> None:
    executor = ScriptedExecutor()
    driver = Driver(executor)
    executor.attach(A, (), (), replace(GREEDY, prompt_logprobs=0))
    result = executor.run(StepPlan((), PrefillChunk(A, (1, 2, 3), last=False)))
    assert len(result.scored) == 2
    executor.release(A)
    driver.start(A, (1, 2), sampling=replace(GREEDY, prompt_logprobs=0))
    assert len(driver.scored) == 1
