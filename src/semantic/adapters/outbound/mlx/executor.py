"""`ModelExecutor` on mlx-lm's batch classes.

`PromptProcessingBatch` holds one sequence's prefill, `GenerationBatch` all that decode;
`BatchGenerator` is not used, because its `next()` cannot follow a plan (ADR-003). When to stop
is decided outside: batches get no stop sequences and no limit. One thread owns an instance.
"""

import sys
from collections.abc import Sequence

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch, StopSequences
from mlx_lm.models.cache import make_prompt_cache

from semantic.adapters.outbound.mlx.batch_caches import NOT_RESTORED, Begun, SequenceCaches
from semantic.adapters.outbound.mlx.kv_part import KVPart, from_tensors, to_tensors
from semantic.adapters.outbound.mlx.restored_caches import Piece, begun, restore
from semantic.adapters.outbound.mlx.sampler import make_sampler
from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.errors import EngineError, IncompatibleCacheError
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, SampledToken, StepPlan, StepResult
from semantic.ports.model_executor import AttachedBlock, Capabilities, PartHandle

_NEVER_STOP = StopSequences()
_NO_LIMIT = sys.maxsize


class MlxExecutor:
    """Runs plans on one MLX model."""

    def __init__(self, model: Module, capabilities: Capabilities) -> None:
        self._model = model
        self._capabilities = capabilities
        self._prefilling: dict[SequenceId, PromptProcessingBatch] = {}
        self._decoding: GenerationBatch | None = None
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
        self._prefilling[sequence] = PromptProcessingBatch(
            self._model,
            uids=[sequence],
            caches=[caches],
            tokens=[list(tokens)],
            # The plan sets the size of a chunk; mlx-lm must not cut it again.
            prefill_step_size=_NO_LIMIT,
            samplers=[make_sampler(sampling)],
            logits_processors=[[]],
            stop_sequences=[_NEVER_STOP],
            max_tokens=[_NO_LIMIT],
        )

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step: decode first, then the chunk of prefill."""
        try:
            sampled = self._decode(plan.decode)
            if plan.prefill is not None:
                self._prefill(plan.prefill)
        except Exception as error:
            raise EngineError(f"the engine failed in a step: {error}") from error
        return StepResult(sampled)

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

    def release(self, sequence: SequenceId) -> None:
        """Forget a sequence, running or not."""
        self._prefilling.pop(sequence, None)
        self._begun.pop(sequence, None)
        if self._decoding is None or sequence not in self._decoding.uids:
            return
        keep = [row for row, uid in enumerate(self._decoding.uids) if uid != sequence]
        if keep:
            self._decoding.filter(keep)
        else:
            self._decoding = None

    def reset(self) -> None:
        """Forget all sequences, whatever state the engine is in."""
        self._prefilling.clear()
        self._begun.clear()
        self._decoding = None
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

    def _decode(self, wanted: tuple[SequenceId, ...]) -> tuple[SampledToken, ...]:
        running = tuple(self._decoding.uids) if self._decoding is not None else ()
        if sorted(wanted) != sorted(running):
            raise EngineError(f"the plan decodes {wanted}, the batch holds {running}")
        if self._decoding is None:
            return ()
        return tuple(
            SampledToken(SequenceId(response.uid), int(response.token))
            for response in self._decoding.next()
        )

    def _prefill(self, chunk: PrefillChunk) -> None:
        batch = self._prefilling[chunk.sequence]
        if not chunk.last:
            batch.prompt([list(chunk.tokens)])
            return
        del self._prefilling[chunk.sequence]
        started = batch.generate([list(chunk.tokens)])
        if self._decoding is None:
            self._decoding = started
        else:
            self._decoding.extend(started)  # type: ignore[no-untyped-call]

    def _find(self, sequence: SequenceId) -> tuple[PromptProcessingBatch | GenerationBatch, int]:
        if sequence in self._prefilling:
            return self._prefilling[sequence], 0
        if self._decoding is not None and sequence in self._decoding.uids:
            return self._decoding, self._decoding.uids.index(sequence)
        raise ValueError(f"sequence {sequence} is not in the engine")


def _own(handle: PartHandle) -> KVPart:
    if not isinstance(handle, KVPart):
        raise IncompatibleCacheError(f"not a block of this engine: {type(handle).__name__}")
    return handle
