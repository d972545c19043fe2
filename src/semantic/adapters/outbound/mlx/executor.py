"""`ModelExecutor` on mlx-lm's batch classes.

`PromptProcessingBatch` holds one sequence's prefill, each `GenerationBatch` those that decode
together; `BatchGenerator` is not used, because its `next()` cannot follow a plan (ADR-003). When to
stop is decided outside: batches get no stop sequences and no limit. One thread owns an instance.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch, StopSequences
from mlx_lm.models.cache import make_prompt_cache

from semantic.adapters.outbound.mlx.batch_bytes import batch_bytes, held_bytes, settle
from semantic.adapters.outbound.mlx.batch_caches import NOT_RESTORED, Begun, SequenceCaches
from semantic.adapters.outbound.mlx.first_token import begin
from semantic.adapters.outbound.mlx.kv_part import KVPart, from_tensors, to_tensors
from semantic.adapters.outbound.mlx.logprobs import token_logprobs
from semantic.adapters.outbound.mlx.penalties import make_processors
from semantic.adapters.outbound.mlx.prompt_scores import PIECE, PromptScorer
from semantic.adapters.outbound.mlx.restored_caches import Piece, begun, restore
from semantic.adapters.outbound.mlx.sampler import RowSampler
from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams, TokenLogprobs
from semantic.domain.step_plan import PrefillChunk, SampledToken, StepPlan, StepResult
from semantic.ports.answer_constraints import Constraint, TokenMask
from semantic.ports.model_executor import AttachedBlock, Capabilities, PartHandle

_NEVER_STOP = StopSequences()
_NO_LIMIT = sys.maxsize
LARGEST_CHUNK = 2048
"""Tokens of a chunk where nobody says."""

Model = Callable[..., mx.array]
"""From tokens (rows, length) and the keyword `cache` to logits (rows, length, vocabulary)."""


class MlxExecutor:
    """Runs plans on one MLX model, chunks of prefill of at most `chunk` tokens."""

    def __init__(
        self, model: Module, capabilities: Capabilities, chunk: int = LARGEST_CHUNK
    ) -> None:
        self._model = model
        self._capabilities = capabilities
        self._chunk = chunk
        self._sampler = RowSampler()
        self._prefilling: dict[SequenceId, PromptProcessingBatch] = {}
        self._scorers: dict[SequenceId, PromptScorer] = {}
        self._decoding: list[GenerationBatch] = []
        self._begun: dict[SequenceId, Begun] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Constant for the life of the executor."""
        return self._capabilities

    def attach(
        self,
        sequence: SequenceId,
        tokens: Sequence[TokenId],
        blocks: Sequence[AttachedBlock],
        sampling: SamplingParams,
        generated: Sequence[TokenId] = (),
        constraint: Constraint | None = None,
    ) -> None:
        """Make a sequence known; `blocks` hold the KV of `tokens`, in order."""
        pieces = [self._piece(block) for block in blocks]
        if sum(piece.length for piece in pieces) != len(tokens):
            raise IncompatibleCacheError(f"the blocks do not hold exactly {len(tokens)} tokens")
        caches = make_prompt_cache(self._model)
        if pieces:
            spec = self._check_keeps()
            caches = restore(caches, pieces, spec)
            if spec.quantization:
                self._begun[sequence] = begun(pieces)
        self._sampler.add(sequence, sampling, len(generated), _walked(constraint, generated))
        model, piece = in_float32(self._model), _NO_LIMIT
        if sampling.prompt_logprobs is not None and not pieces:
            model = self._scorers[sequence] = PromptScorer(model, sampling.prompt_logprobs)
            piece = PIECE
        self._prefilling[sequence] = PromptProcessingBatch(
            model,
            uids=[sequence],
            caches=[caches],
            tokens=[list(tokens)],
            # The plan sets the size of a chunk; mlx-lm must not cut it again but for scores.
            prefill_step_size=piece,
            samplers=[self._sampler],
            logits_processors=[make_processors(sampling)],
            stop_sequences=[_NEVER_STOP],
            max_tokens=[_NO_LIMIT],
        )

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step: decode first, then the chunk of prefill."""
        self._check_runs(plan.decode)
        sampled: list[SampledToken] = []
        for batch in self._decoding:
            with _suspected(batch.uids):
                self._sampler.expect(batch.uids, partial(_chosen, batch))
                sampled += [
                    self._scored(response.uid, response.token, response.logprobs)
                    for response in batch.next()
                ]
        scored: tuple[TokenLogprobs, ...] = ()
        if plan.prefill is not None:
            with _suspected([plan.prefill.sequence]):
                scored = self._prefill(plan.prefill)
        return StepResult(tuple(sampled), scored)

    def batch_bytes(self, rows: Sequence[int]) -> int:
        """Bytes that a batch takes at most whose rows hold so many tokens each."""
        spec = self._capabilities.spec
        return batch_bytes(spec, rows, self._chunk) if spec else 0

    def held_bytes(self) -> int:
        """Bytes that the KV of all attached sequences takes now."""
        prefilling = sum(held_bytes(batch.prompt_cache) for batch in self._prefilling.values())
        return prefilling + sum(held_bytes(batch.prompt_cache) for batch in self._decoding)

    def seal(self, sequence: SequenceId, start: int, end: int, kind: PartKind) -> KVPart | None:
        """Copy a part of the block start..end of a sequence into an immutable handle."""
        spec = self._check_keeps()
        if not kind.begins and kind not in spec.resume_rule.extras:
            raise IncompatibleCacheError(f"no layer of this model has a {kind.value} part")
        batch, row = self._find(sequence)
        computed = len(batch.tokens[row])
        if not 0 <= start < end <= computed:
            raise ValueError(f"positions {start}..{end} of {computed} computed ones")
        restored = self._begun.get(sequence, NOT_RESTORED)
        caches = SequenceCaches(batch.prompt_cache, row, computed, spec, restored)
        return caches.cut(start, end, kind)

    def export(self, handle: PartHandle) -> tuple[Tensor, ...]:
        """The handle's arrays as bytes."""
        return to_tensors(_own(handle))

    def import_part(self, kind: PartKind, tensors: Sequence[Tensor], num_tokens: int) -> KVPart:
        """The inverse of `export`, bit for bit."""
        return from_tensors(kind, tensors, num_tokens, self._check_keeps())

    def chosen(self, sequence: SequenceId) -> SampledToken | None:
        """The token that a decoding sequence would get in the next step."""
        batch = self._batch_of(sequence)
        if batch is None:
            return None
        row = batch.uids.index(sequence)
        # mlx-lm computes one step ahead, and has no other name for that; pinned by a test.
        token, logprobs = batch._next_tokens[row], batch._next_logprobs[row]  # noqa: SLF001
        return self._scored(sequence, token, logprobs)

    def release(self, sequence: SequenceId) -> None:
        """Forget a sequence, running or not."""
        self._sampler.forget(sequence)
        self._prefilling.pop(sequence, None)
        self._scorers.pop(sequence, None)
        self._begun.pop(sequence, None)
        batch = self._batch_of(sequence)
        if batch is None:
            return
        keep = [row for row, uid in enumerate(batch.uids) if uid != sequence]
        if keep:
            batch.filter(keep)
            settle(batch.prompt_cache)
        else:
            self._decoding.remove(batch)

    def reset(self) -> None:
        """Forget all sequences, whatever state the engine is in."""
        self._sampler.clear()
        self._prefilling.clear()
        self._scorers.clear()
        self._begun.clear()
        self._decoding.clear()
        mx.clear_cache()

    def _check_keeps(self) -> ModelCacheSpec:
        if self._capabilities.spec is None:
            raise IncompatibleCacheError("this model's KV cannot be kept")
        return self._capabilities.spec

    def _piece(self, block: AttachedBlock) -> Piece:
        full = _own(block.full)
        if not full.kind.begins or not 0 < block.length <= full.num_tokens:
            raise IncompatibleCacheError("a block is asked for more tokens than it holds")
        return Piece(
            full=full,
            length=block.length,
            sliding=self._extra(full, block.sliding, PartKind.SLIDING),
            state=self._extra(full, block.state, PartKind.STATE),
        )

    def _extra(self, full: KVPart, handle: PartHandle | None, kind: PartKind) -> KVPart | None:
        """A part that adds to the block of `full`."""
        if handle is None:
            return None
        part = _own(handle)
        known = kind in self._check_keeps().resume_rule.extras
        if not known or (part.kind, part.num_tokens) != (kind, full.num_tokens):
            raise IncompatibleCacheError(f"not this block's {kind.value} part")
        return part

    def _check_runs(self, wanted: tuple[SequenceId, ...]) -> None:
        running = [uid for batch in self._decoding for uid in batch.uids]
        if sorted(wanted) != sorted(running):
            raise EngineError(f"the plan decodes {wanted}, the batches hold {running}")

    def _scored(self, uid: int, token: int | mx.array, logprobs: mx.array) -> SampledToken:
        sequence, chosen = SequenceId(uid), int(token)
        count = self._sampler.params(sequence).logprobs
        scored = None if count is None else token_logprobs(logprobs, chosen, count)
        return SampledToken(sequence, chosen, scored)

    def _prefill(self, chunk: PrefillChunk) -> tuple[TokenLogprobs, ...]:
        """Compute a chunk; the scores of its tokens, if somebody asked for them."""
        batch = self._prefilling[chunk.sequence]
        scorer = self._scorers.get(chunk.sequence)
        if chunk.last:
            self._begin(batch, chunk)
            if scorer is not None:
                scorer.stop()
                del self._scorers[chunk.sequence]
        else:
            batch.prompt([list(chunk.tokens)])
        return scorer.take() if scorer else ()

    def _begin(self, batch: PromptProcessingBatch, chunk: PrefillChunk) -> None:
        """Compute the last chunk, and choose the first token."""
        del self._prefilling[chunk.sequence]
        self._sampler.expect([chunk.sequence])
        started = begin(batch, chunk.tokens)
        together = None if chunk.joins is None else self._batch_of(chunk.joins)
        if together is None:
            self._decoding.append(started)
        else:
            together.extend(started)  # type: ignore[no-untyped-call]
            settle(together.prompt_cache, started.prompt_cache)

    def _batch_of(self, sequence: SequenceId) -> GenerationBatch | None:
        return next((batch for batch in self._decoding if sequence in batch.uids), None)

    def _find(self, sequence: SequenceId) -> tuple[PromptProcessingBatch | GenerationBatch, int]:
        if sequence in self._prefilling:
            return self._prefilling[sequence], 0
        batch = self._batch_of(sequence)
        if batch is None:
            raise ValueError(f"sequence {sequence} is not in the engine")
        return batch, batch.uids.index(sequence)


@contextmanager
def _suspected(sequences: Sequence[int]) -> Iterator[None]:
    """Name those in whose part of a step something fails."""
    suspects = tuple(sequences)
    try:
        yield
    except EngineError as error:
        if error.suspects:
            raise
        raise EngineError(str(error), suspects=suspects) from error
    except Exception as error:
        raise EngineError(f"the engine failed in a step: {error}", suspects=suspects) from error


def _walked(constraint: Constraint | None, generated: Sequence[TokenId]) -> TokenMask | None:
    """The mask of an answer that begins with these tokens.

    Raises:
        EngineError: if it could not begin so.
    """
    if constraint is None:
        return None
    mask = constraint.begin()
    for token in generated:
        mask.accept(token)
    return mask


def _chosen(batch: GenerationBatch) -> list[TokenId]:
    """The tokens whose KV comes with the step that the batch is in; waits for them."""
    # They have no other name while the next ones are being chosen; pinned by a test.
    return [TokenId(token) for token in np.array(batch._next_tokens)]  # noqa: SLF001


def in_float32(model: Module) -> Model:
    """The model with logits in float32: half types' ties and rounding would decide what is drawn.

    As vLLM does. Without it, logits would also depend on whether a neighbour has penalties.
    """

    def logits(tokens: mx.array, cache: list[object]) -> mx.array:
        found: mx.array = model(tokens, cache=cache)
        return found.astype(mx.float32)

    return logits


def _own(handle: PartHandle) -> KVPart:
    if not isinstance(handle, KVPart):
        raise IncompatibleCacheError(f"not a block of this engine: {type(handle).__name__}")
    return handle
