"""An engine without a model, whose answers depend on its KV and on nothing else."""

import hashlib
import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.fakes.reference_sampling import adjusted, draw, normalised, told
from tests.fakes.scripted_memory import (
    FULL_LAYER,
    RECURRENT_LAYER,
    Memory,
    ScriptedPart,
    from_tensors,
    own,
    sliding_layer,
    spec_of,
    to_tensors,
)

from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import Granularity, ModelCacheSpec
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import Namespace, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams, TokenLogprobs
from semantic.domain.step_plan import PrefillChunk, SampledToken, StepPlan, StepResult
from semantic.ports.answer_constraints import Constraint, TokenMask
from semantic.ports.model_executor import AttachedBlock, Capabilities, PartHandle

UNIFORM = spec_of(FULL_LAYER)
SHORT_WINDOW = spec_of(FULL_LAYER, sliding_layer(8), sliding_layer(8))
LONG_WINDOW = spec_of(sliding_layer(300), FULL_LAYER)
TWO_WINDOWS = spec_of(sliding_layer(300), FULL_LAYER, sliding_layer(40))
HYBRID = spec_of(RECURRENT_LAYER, FULL_LAYER, RECURRENT_LAYER)
RECURRENT = spec_of(RECURRENT_LAYER)
EVERYTHING = spec_of(FULL_LAYER, sliding_layer(300), RECURRENT_LAYER)

SPECS: dict[str, ModelCacheSpec] = {
    "uniform": UNIFORM,
    "short window": SHORT_WINDOW,
    "long window": LONG_WINDOW,
    "two windows": TWO_WINDOWS,
    "hybrid": HYBRID,
    "recurrent": RECURRENT,
    "everything": EVERYTHING,
}
"""Models that can be kept, by what they are made of."""

NAMESPACE = Namespace(hashlib.sha256(b"the scripted executor's model").hexdigest())
VOCABULARY = 101

_CANDIDATES = 8
"""Tokens that sampling may choose from, the greedy choice first."""
_BEST, _UNLIKELY = 3.0, -30.0
_EACH_LESS_LIKELY = 0.7
"""How much each candidate's logit lies below the one before."""

Chooser = Callable[[tuple[TokenId, ...]], TokenId]


class MisuseError(Exception):
    """The caller broke the port's rules: a bug of ours."""


@dataclass(slots=True)
class _Running:
    sampling: SamplingParams
    tokens: tuple[TokenId, ...]
    memory: Memory
    truth: Memory
    """What the memory would be, had all tokens been computed at once."""
    seed: int
    drawn: int
    mask: TokenMask | None = None
    scores: bool = False
    """Whether all of the prompt is computed, so that it can be scored."""
    decoding: bool = False
    next: tuple[TokenId, TokenLogprobs | None] | None = None


def hashed_choice(tokens: tuple[TokenId, ...]) -> TokenId:
    """A token that every earlier one has a part in."""
    digest = hashlib.sha256(repr(tokens).encode()).digest()
    return TokenId(int.from_bytes(digest[:8], "big") % VOCABULARY)


@dataclass
class ScriptedExecutor:
    """Implements the port `ModelExecutor`.

    `spec` says what layers it plays; None: its KV cannot be kept. `choose` gives the greedy token
    after all tokens so far; with anything wrong in what a layer sees, the answer is wrong.
    What is attached is compared with what should be, unless it is `trusting`, as a real engine.
    The n-th run raises if n is `fail_on_run`, counted from 1, and so many `failures` in a row.
    `plans` are the steps performed.
    Misuse that a real engine may not notice raises `MisuseError`.
    """

    spec: ModelCacheSpec | None = UNIFORM
    choose: Chooser = hashed_choice
    fail_on_run: int | None = None
    failures: int = 1
    max_context: int = 8192
    max_batch: int = 8
    namespace: Namespace = NAMESPACE
    trusting: bool = False
    bytes_per_token: int = 1
    plans: list[StepPlan] = field(default_factory=list)
    _running: dict[SequenceId, _Running] = field(default_factory=dict)
    _broken: bool = False
    _owner: int | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            granularity=self.spec.granularity if self.spec else Granularity.NONE,
            spec=self.spec,
            namespace=self.namespace,
            max_context=self.max_context,
            vocab_size=VOCABULARY,
            max_batch=self.max_batch,
        )

    @property
    def sequences(self) -> frozenset[SequenceId]:
        """Sequences that are attached and not released."""
        return frozenset(self._running)

    def attach(
        self,
        sequence: SequenceId,
        tokens: Sequence[TokenId],
        blocks: Sequence[AttachedBlock],
        sampling: SamplingParams,
        generated: Sequence[TokenId] = (),
        constraint: Constraint | None = None,
    ) -> None:
        self._entered()
        if sequence in self._running:
            raise MisuseError(f"sequence {sequence} is attached already")
        if blocks:
            self._kept_spec()
        spec = self.spec or UNIFORM
        memory = Memory.restored(spec, blocks)
        truth = Memory.computed(spec, tokens)
        if memory.num_tokens != len(tokens):
            raise IncompatibleCacheError(f"blocks of {memory.num_tokens} tokens for {len(tokens)}")
        if memory.seen() != truth.seen() and not self.trusting:
            raise IncompatibleCacheError("the blocks do not hold those tokens")
        seed = sampling.seed if sampling.seed is not None else random.getrandbits(64)
        mask = constraint.begin() if constraint else None
        if mask is not None:
            for token in generated:
                mask.accept(token)
        self._running[sequence] = _Running(
            sampling, tuple(tokens), memory, truth, seed, len(generated), mask, not blocks
        )

    def run(self, plan: StepPlan) -> StepResult:
        self._entered()
        self.plans.append(plan)
        first = self.fail_on_run
        if first is not None and first <= len(self.plans) < first + self.failures:
            self._broken = True
            raise EngineError("the script says that this step fails")
        running = [key for key, sequence in self._running.items() if sequence.decoding]
        if sorted(plan.decode) != sorted(running):
            self._broken = True
            raise EngineError(f"the plan decodes {plan.decode}, the batch holds {running}")
        sampled = tuple(SampledToken(key, *self._decode(key)) for key in running)
        scored = () if plan.prefill is None else self._prefill(plan.prefill)
        return StepResult(sampled, scored)

    def seal(
        self, sequence: SequenceId, start: int, end: int, kind: PartKind
    ) -> ScriptedPart | None:
        self._entered()
        spec = self._kept_spec()
        if not kind.begins and kind not in spec.resume_rule.extras:
            raise IncompatibleCacheError(f"this model's blocks have no such part: {kind}")
        if sequence not in self._running:
            raise ValueError(f"sequence {sequence} is not in the engine")
        memory = self._running[sequence].memory
        if not 0 <= start < end <= memory.num_tokens:
            raise ValueError(f"positions {start}..{end} of {memory.num_tokens} computed ones")
        return memory.seal(start, end, kind)

    def export(self, handle: PartHandle) -> tuple[Tensor, ...]:
        self._entered()
        return to_tensors(self._kept_spec(), own(handle))

    def import_part(
        self, kind: PartKind, tensors: Sequence[Tensor], num_tokens: int
    ) -> ScriptedPart:
        self._entered()
        return from_tensors(self._kept_spec(), kind, tensors, num_tokens)

    def batch_bytes(self, rows: Sequence[int]) -> int:
        return len(rows) * max(rows, default=0) * self.bytes_per_token

    def held_bytes(self) -> int:
        tokens = sum(sequence.memory.num_tokens for sequence in self._running.values())
        return tokens * self.bytes_per_token

    def chosen(self, sequence: SequenceId) -> SampledToken | None:
        self._entered()
        running = self._running.get(sequence)
        if running is None or running.next is None:
            return None
        return SampledToken(sequence, *running.next)

    def release(self, sequence: SequenceId) -> None:
        self._entered()
        self._running.pop(sequence, None)

    def reset(self) -> None:
        self._broken = False
        self._entered()
        self._running.clear()

    def _entered(self) -> None:
        here = threading.get_ident()
        self._owner = self._owner or here
        if here != self._owner:
            raise MisuseError("called from a thread that does not own the engine")
        if self._broken:
            raise MisuseError("after a failure only reset may be called")

    def _kept_spec(self) -> ModelCacheSpec:
        if self.spec is None:
            raise IncompatibleCacheError("this model's KV cannot be kept")
        return self.spec

    def _decode(self, key: SequenceId) -> tuple[TokenId, TokenLogprobs | None]:
        sequence = self._running[key]
        chosen = sequence.next
        if chosen is None:
            raise MisuseError("nothing was prefilled")
        _compute(sequence, chosen[:1])
        sequence.next = self._chosen(key, after=chosen[0])
        return chosen

    def _chosen(
        self, key: SequenceId, after: TokenId | None = None
    ) -> tuple[TokenId, TokenLogprobs | None]:
        """The next token; the mask hears of the one `after` which it comes."""
        sequence = self._running[key]
        if sequence.mask is None:
            return self._sample(sequence)
        try:
            if after is not None:
                sequence.mask.accept(after)
            return self._sample(sequence, sequence.mask.allowed())
        except Exception as error:
            self._broken = True
            raise EngineError(f"no mask: {error}", suspects=(key,)) from error

    def _prefill(self, chunk: PrefillChunk) -> tuple[TokenLogprobs, ...]:
        sequence = self._running.get(chunk.sequence)
        if sequence is None or sequence.decoding or not chunk.tokens:
            self._broken = True
            raise EngineError(f"nothing to prefill: {chunk}")
        first = len(sequence.tokens)
        _compute(sequence, chunk.tokens)
        if chunk.last:
            sequence.decoding = True
            sequence.next = self._chosen(chunk.sequence)
        count = sequence.sampling.prompt_logprobs
        if count is None or not sequence.scores:
            return ()
        tokens = sequence.tokens
        return tuple(
            told(normalised(self._logits(tokens[:place])), tokens[place], count)
            for place in range(max(1, first), len(tokens))
        )

    def _logits(self, known: tuple[TokenId, ...]) -> list[float]:
        best = self.choose(known)
        logits = [_UNLIKELY] * VOCABULARY
        for rank in range(_CANDIDATES):
            logits[(best + rank) % VOCABULARY] = _BEST - rank * _EACH_LESS_LIKELY
        return logits

    def _sample(
        self, sequence: _Running, allowed: bytes | None = None
    ) -> tuple[TokenId, TokenLogprobs | None]:
        known, sampling = _known(sequence), sequence.sampling
        if _plain(sampling) and allowed is None:
            return self.choose(known), None
        logprobs = adjusted(self._logits(known), sampling, sequence.tokens)
        may = logprobs
        if allowed is not None:
            may = [
                one if allowed[token // 8] >> token % 8 & 1 else -math.inf
                for token, one in enumerate(logprobs)
            ]
        token = draw(may, sampling, sequence.seed, sequence.drawn)
        sequence.drawn += 1
        count = sampling.logprobs
        return token, None if count is None else told(logprobs, token, count)


def _plain(sampling: SamplingParams) -> bool:
    """Whether nothing but the best token is wanted, as in most tests: that is quick."""
    changed = sampling.penalises or sampling.logit_bias or sampling.logprobs is not None
    return sampling.greedy and not changed


def _compute(sequence: _Running, tokens: tuple[TokenId, ...]) -> None:
    sequence.tokens += tokens
    sequence.memory.advance(tokens)
    sequence.truth.advance(tokens)


def _known(sequence: _Running) -> tuple[TokenId, ...]:
    """The tokens so far; something else besides if a layer sees what is not so."""
    seen = sequence.memory.seen()
    if seen == sequence.truth.seen():
        return sequence.tokens
    return (*sequence.tokens, *hashlib.sha256(b"".join(seen)).digest())
