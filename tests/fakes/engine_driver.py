"""Drives a model executor through prompts and answers, and keeps what it leaves behind."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.resume import ResumeRule
from semantic.domain.sampling import SamplingParams, TokenLogprobs
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.answer_constraints import Constraint
from semantic.ports.model_executor import AttachedBlock, ModelExecutor, PartHandle

Tokens = tuple[TokenId, ...]

GREEDY = SamplingParams(temperature=0)
VOCABULARY = 101
_STRANGER = SequenceId(1000)
"""Answers alone, under a number that no test uses."""


@dataclass
class Driver:
    """Drives an executor as the engine loop does: every step decodes all that decode."""

    executor: ModelExecutor
    decoding: list[SequenceId] = field(default_factory=list)
    answers: dict[SequenceId, list[TokenId]] = field(default_factory=dict)
    logprobs: dict[SequenceId, list[TokenLogprobs | None]] = field(default_factory=dict)
    scored: list[TokenLogprobs] = field(default_factory=list)
    """Of all prompts, in the order of their chunks."""

    def start(  # noqa: PLR0913 - one for each of `attach`
        self,
        sequence: SequenceId,
        prompt: Tokens,
        *,
        cuts: Sequence[int] = (),
        blocks: Sequence[AttachedBlock] = (),
        sampling: SamplingParams = GREEDY,
        generated: Sequence[TokenId] = (),
        constraint: Constraint | None = None,
    ) -> None:
        """Attach and prefill; a chunk ends at each of `cuts`. Who decodes goes on meanwhile."""
        position = sum(block.length for block in blocks)
        self.executor.attach(sequence, prompt[:position], blocks, sampling, generated, constraint)
        ends = [*(cut for cut in cuts if position < cut < len(prompt)), len(prompt)]
        for begin, end in pairwise([position, *ends]):
            self.prefill(sequence, prompt[begin:end], last=end == len(prompt))

    def prefill(self, sequence: SequenceId, tokens: Tokens, *, last: bool = False) -> None:
        """One chunk of an attached sequence's prompt; after the last one it decodes with all."""
        joins = self.decoding[0] if last and self.decoding else None
        self.step(PrefillChunk(sequence, tokens, last, joins))
        if last:
            self.decoding.append(sequence)
            self.answers[sequence] = []
            self.logprobs[sequence] = []

    def step(self, prefill: PrefillChunk | None = None) -> None:
        """One step of all that decode."""
        result = self.executor.run(StepPlan(tuple(self.decoding), prefill))
        assert sorted(token.sequence for token in result.sampled) == sorted(self.decoding)
        for sampled in result.sampled:
            self.answers[sampled.sequence].append(sampled.token)
            self.logprobs[sampled.sequence].append(sampled.logprobs)
        self.scored += result.scored

    def steps(self, count: int) -> None:
        """So many tokens for each that decodes."""
        for _ in range(count):
            self.step()

    def release(self, sequence: SequenceId) -> Tokens:
        """Release it; return what it answered."""
        self.executor.release(sequence)
        self.decoding.remove(sequence)
        return tuple(self.answers.pop(sequence))


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """The handles of start..end; those of windows or a state are None if they were gone."""

    start: int
    full: PartHandle
    sliding: PartHandle | None = None
    state: PartHandle | None = None

    @property
    def end(self) -> int:
        return self.start + self.full.num_tokens

    @property
    def kinds(self) -> dict[PartKind, PartHandle]:
        """The handles that there are, by kind."""
        begins = full_or_tail(self.full.num_tokens)
        found = {begins: self.full, PartKind.SLIDING: self.sliding, PartKind.STATE: self.state}
        return {kind: handle for kind, handle in found.items() if handle is not None}


def full_or_tail(length: int) -> PartKind:
    """The kind by which a block of so many tokens exists."""
    return PartKind.FULL if length == BLOCK_SIZE else PartKind.TAIL


def make_prompt(length: int, seed: int = 0) -> Tokens:
    """Tokens that look like nothing."""
    return tuple(random.Random(seed).choices(range(VOCABULARY), k=length))  # noqa: S311 - an example


def answer_alone(
    executor: ModelExecutor, prompt: Tokens, count: int, sampling: SamplingParams = GREEDY
) -> Tokens:
    """What it answers to `prompt` without neighbours and without a past."""
    driver = Driver(executor)
    driver.start(_STRANGER, prompt, sampling=sampling)
    driver.steps(count)
    return driver.release(_STRANGER)


def rule_of(executor: ModelExecutor) -> ResumeRule:
    """From where this executor's model can be continued."""
    assert executor.capabilities.spec is not None
    return executor.capabilities.spec.resume_rule


def keep(executor: ModelExecutor, sequence: SequenceId, start: int, end: int) -> KeptBlock:
    """Seal all parts of start..end that there are."""
    full = executor.seal(sequence, start, end, full_or_tail(end - start))
    assert full is not None
    extras = {kind: executor.seal(sequence, start, end, kind) for kind in rule_of(executor).extras}
    return KeptBlock(start, full, extras.get(PartKind.SLIDING), extras.get(PartKind.STATE))


def last_block(end: int) -> tuple[int, int]:
    """The whole block that ends at `end`, or the tail that does."""
    return (end - 1) // BLOCK_SIZE * BLOCK_SIZE, end


def exported(executor: ModelExecutor, block: KeptBlock) -> dict[PartKind, tuple[Tensor, ...]]:
    """The bytes of all its parts."""
    return {kind: executor.export(handle) for kind, handle in block.kinds.items()}


def through_bytes(source: ModelExecutor, target: ModelExecutor, block: KeptBlock) -> KeptBlock:
    """The block as another engine, or the same one later, reads it."""
    handles = {
        kind: target.import_part(kind, tensors, block.full.num_tokens)
        for kind, tensors in exported(source, block).items()
    }
    return KeptBlock(
        block.start,
        handles[full_or_tail(block.full.num_tokens)],
        handles.get(PartKind.SLIDING),
        handles.get(PartKind.STATE),
    )


def attached(rule: ResumeRule, blocks: Sequence[KeptBlock], position: int) -> list[AttachedBlock]:
    """The first `position` tokens of consecutive blocks, with the parts that `rule` asks for."""
    used = []
    for block in blocks:
        length = min(block.end, position) - block.start
        if length > 0:
            needed = rule.needed(block.start + length, position)
            used.append(
                AttachedBlock(
                    block.full,
                    length,
                    block.sliding if PartKind.SLIDING in needed else None,
                    block.state if PartKind.STATE in needed else None,
                )
            )
    return used
