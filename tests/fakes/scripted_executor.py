"""An engine without a model, whose answers depend on its KV and on nothing else."""

import hashlib
import math
import random
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from semantic.domain.block import Part
from semantic.domain.cache_spec import Granularity, ModelCacheSpec
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import Namespace, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, SampledToken, StepPlan, StepResult
from semantic.ports.model_executor import AttachedBlock, BlockHandle, Capabilities

SPEC = ModelCacheSpec(num_layers=1, num_kv_heads=1, key_dim=1, value_dim=1, dtype="F32", itemsize=4)
"""A key is a token's id, a value a checksum of the tokens up to and including it."""

NAMESPACE = Namespace(hashlib.sha256(b"the scripted executor's model").hexdigest())
VOCABULARY = 101

_CANDIDATES = 8
"""Tokens that sampling may choose from, the greedy choice first."""
_EACH_LESS_LIKELY = 0.7
"""How much each candidate's logit lies below the one before."""

Chooser = Callable[[tuple[TokenId, ...]], TokenId]


class MisuseError(Exception):
    """The caller broke the port's rules: a bug of ours."""


@dataclass(frozen=True, slots=True)
class ScriptedBlock:
    """A handle: four bytes a token each."""

    keys: bytes
    values: bytes

    @property
    def num_tokens(self) -> int:
        return len(self.keys) // SPEC.itemsize

    @property
    def nbytes(self) -> int:
        return len(self.keys) + len(self.values)

    def first(self, length: int) -> "ScriptedBlock":
        return self.cut(0, length)

    def cut(self, start: int, end: int) -> "ScriptedBlock":
        where = slice(start * SPEC.itemsize, end * SPEC.itemsize)
        return ScriptedBlock(self.keys[where], self.values[where])

    def __add__(self, other: "ScriptedBlock") -> "ScriptedBlock":
        return ScriptedBlock(self.keys + other.keys, self.values + other.values)


@dataclass(slots=True)
class _Running:
    sampling: SamplingParams
    kv: ScriptedBlock
    random: random.Random
    decoding: bool = False
    next: TokenId | None = None


def hashed_choice(tokens: tuple[TokenId, ...]) -> TokenId:
    """A token that every earlier one has a part in."""
    digest = hashlib.sha256(repr(tokens).encode()).digest()
    return TokenId(int.from_bytes(digest[:8], "big") % VOCABULARY)


@dataclass
class ScriptedExecutor:
    """Implements the port `ModelExecutor`.

    `choose` gives the greedy token after all tokens so far, which are read back from the KV: with
    wrong KV the answer is wrong. The n-th run raises if n is `fail_on_run`, counted from 1.
    `plans` are the steps performed. Misuse that a real engine may not notice raises `MisuseError`.
    """

    granularity: Granularity = Granularity.BLOCK
    choose: Chooser = hashed_choice
    fail_on_run: int | None = None
    max_context: int = 8192
    max_batch: int = 8
    namespace: Namespace = NAMESPACE
    plans: list[StepPlan] = field(default_factory=list)
    _running: dict[SequenceId, _Running] = field(default_factory=dict)
    _broken: bool = False
    _owner: int | None = None

    @property
    def capabilities(self) -> Capabilities:
        keeps = self.granularity is Granularity.BLOCK
        return Capabilities(
            granularity=self.granularity,
            spec=SPEC if keeps else None,
            namespace=self.namespace,
            max_context=self.max_context,
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
    ) -> None:
        self._entered()
        if sequence in self._running:
            raise MisuseError(f"sequence {sequence} is attached already")
        if any(not 0 < block.length <= block.handle.num_tokens for block in blocks):
            raise IncompatibleCacheError("a block is asked for more tokens than it holds")
        kv = ScriptedBlock(b"", b"")
        for block in blocks:
            kv += _own(block.handle).first(block.length)
        if kv != _computed(tuple(tokens)):
            raise IncompatibleCacheError("the blocks do not hold those tokens")
        seed = sampling.seed if sampling.seed is not None else random.getrandbits(64)
        self._running[sequence] = _Running(sampling, kv, random.Random(seed))  # noqa: S311 - no secret

    def run(self, plan: StepPlan) -> StepResult:
        self._entered()
        self.plans.append(plan)
        if len(self.plans) == self.fail_on_run:
            self._broken = True
            raise EngineError("the script says that this step fails")
        running = [key for key, sequence in self._running.items() if sequence.decoding]
        if sorted(plan.decode) != sorted(running):
            self._broken = True
            raise EngineError(f"the plan decodes {plan.decode}, the batch holds {running}")
        sampled = tuple(SampledToken(key, self._decode(self._running[key])) for key in running)
        if plan.prefill is not None:
            self._prefill(plan.prefill)
        return StepResult(sampled)

    def seal(self, sequence: SequenceId, start: int, end: int) -> ScriptedBlock:
        self._entered()
        self._check_keeps()
        if sequence not in self._running:
            raise ValueError(f"sequence {sequence} is not in the engine")
        kv = self._running[sequence].kv
        if not 0 <= start < end <= kv.num_tokens:
            raise ValueError(f"positions {start}..{end} of {kv.num_tokens} computed ones")
        return kv.cut(start, end)

    def export(self, handle: BlockHandle) -> tuple[Part, ...]:
        self._entered()
        block = _own(handle)
        shape = (1, 1, 1, block.num_tokens, 1)
        return (
            Part("keys", SPEC.dtype, shape, block.keys),
            Part("values", SPEC.dtype, shape, block.values),
        )

    def import_parts(self, parts: Sequence[Part], num_tokens: int) -> ScriptedBlock:
        self._entered()
        self._check_keeps()
        shape = (1, 1, 1, num_tokens, 1)
        found = [(part.name, part.dtype, part.shape, len(part.data)) for part in parts]
        if sorted(found) != [
            (name, SPEC.dtype, shape, num_tokens * SPEC.itemsize) for name in ("keys", "values")
        ]:
            raise IncompatibleCacheError(f"not {num_tokens} tokens of this model: {found}")
        data = {part.name: part.data for part in parts}
        return ScriptedBlock(data["keys"], data["values"])

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

    def _check_keeps(self) -> None:
        if self.granularity is not Granularity.BLOCK:
            raise IncompatibleCacheError("this model's KV cannot be kept")

    def _decode(self, sequence: _Running) -> TokenId:
        token = sequence.next
        if token is None:
            raise MisuseError("nothing was prefilled")
        _compute(sequence, (token,))
        sequence.next = self._sample(sequence)
        return token

    def _prefill(self, chunk: PrefillChunk) -> None:
        sequence = self._running.get(chunk.sequence)
        if sequence is None or sequence.decoding or not chunk.tokens:
            self._broken = True
            raise EngineError(f"nothing to prefill: {chunk}")
        _compute(sequence, chunk.tokens)
        if chunk.last:
            sequence.decoding = True
            sequence.next = self._sample(sequence)

    def _sample(self, sequence: _Running) -> TokenId:
        best = self.choose(_tokens(sequence.kv))
        if sequence.sampling.greedy:
            return best
        coldness = _EACH_LESS_LIKELY / max(sequence.sampling.temperature, 1e-6)
        weights = [math.exp(-rank * coldness) for rank in range(_CANDIDATES)]
        kept: list[float] = []
        for weight in weights:
            if sum(kept) >= sequence.sampling.top_p * sum(weights) and kept:
                break
            kept.append(weight)
        (rank,) = sequence.random.choices(range(len(kept)), kept)
        return TokenId((best + rank) % VOCABULARY)


def _compute(sequence: _Running, tokens: tuple[TokenId, ...]) -> None:
    sequence.kv += _computed(tokens, before=sequence.kv)


def _computed(tokens: tuple[TokenId, ...], before: ScriptedBlock | None = None) -> ScriptedBlock:
    """KV of `tokens`, which stand behind those of `before`."""
    keys = struct.pack(f"<{len(tokens)}I", *tokens)
    state = hashlib.sha256(before.keys if before else b"")
    values = []
    for position in range(len(tokens)):
        state.update(keys[position * 4 : position * 4 + 4])
        values.append(state.digest()[:4])
    return ScriptedBlock(keys, b"".join(values))


def _tokens(kv: ScriptedBlock) -> tuple[TokenId, ...]:
    """The tokens that the KV stands for; others if it is not what was computed."""
    tokens = struct.unpack(f"<{kv.num_tokens}I", kv.keys)
    if kv != _computed(tokens):
        tokens = (*tokens, *struct.unpack(f"<{kv.num_tokens}I", kv.values))
    return tokens


def _own(handle: BlockHandle) -> ScriptedBlock:
    if not isinstance(handle, ScriptedBlock):
        raise IncompatibleCacheError(f"not a block of this engine: {type(handle).__name__}")
    return handle
