"""The engine, seen from the application.

It works on opaque handles, so that hot reuse never leaves the device and another engine fits
behind it. One thread owns an executor: every call comes from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import Granularity, ModelCacheSpec
from semantic.domain.ids import Namespace, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import SampledToken, StepPlan, StepResult
from semantic.ports.answer_constraints import Constraint


class PartHandle(Protocol):
    """A part of a block, held by the engine until nobody refers to it."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the block that it is a part of."""

    @property
    def nbytes(self) -> int:
        """Device memory it takes."""


@dataclass(frozen=True, slots=True)
class AttachedBlock:
    """The first `length` tokens of a block, by the parts that are needed of it.

    `sliding` reaches into the windows that the sequence goes on with, `state` is that at its end.
    """

    full: PartHandle
    length: int
    sliding: PartHandle | None = None
    state: PartHandle | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do with the model it runs."""

    granularity: Granularity
    spec: ModelCacheSpec | None
    """None if the KV cannot be described, and then it is not kept either."""
    namespace: Namespace
    max_context: int
    """Tokens of prompt and answer together."""
    vocab_size: int
    """Tokens that it may choose from: ids below it."""
    max_batch: int
    """Sequences that may run at once; 1 for models whose ragged batches are wrong."""
    weights_bytes: int = 0
    """What every step reads of the weights, once for each batch."""


class ModelExecutor(Protocol):
    """Runs plans on one loaded model. All calls come from the thread that owns it."""

    @property
    def capabilities(self) -> Capabilities:
        """Constant for the life of the executor."""

    def attach(
        self,
        sequence: SequenceId,
        tokens: Sequence[TokenId],
        blocks: Sequence[AttachedBlock],
        sampling: SamplingParams,
        generated: Sequence[TokenId] = (),
        constraint: Constraint | None = None,
    ) -> None:
        """Make a sequence known; `blocks` hold the KV of `tokens`, in order. Copies both.

        `generated` are tokens of the answer that have been chosen before: they are the last of
        those that are restored or prefilled, and the next one's draw is the seed's of that number.
        Penalties count all that is restored or prefilled. Without a seed, one is made up. Only
        tokens that the `constraint` allows after those are chosen; logprobs tell of all. The
        prompt's own are told while it is computed, by sampling that asks for them, if it goes on
        from no blocks.

        Raises:
            EngineError: if the constraint does not allow what is generated.
            IncompatibleCacheError: if the blocks do not hold exactly those tokens, or not all that
                the model's layers need to go on from there.
        """

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step. After an exception only `reset` may be called.

        Raises:
            EngineError: if the engine failed, naming the sequences in what failed where it is
                known; the KV of all running sequences is lost.
        """

    def seal(self, sequence: SequenceId, start: int, end: int, kind: PartKind) -> PartHandle | None:
        """Copy a part of the block start..end of a sequence into an immutable handle.

        None if its layers do not hold that any more: windows have moved on, or a state has; and if
        what it was restored from would be quantised again (ADR-011).

        Raises:
            ValueError: if those positions have not all been computed.
            IncompatibleCacheError: if this model's KV cannot be kept, or it has no such parts.
            EngineError: if the cache does not hold exactly the tokens that went in.
        """

    def export(self, handle: PartHandle) -> tuple[Tensor, ...]:
        """The handle's arrays as bytes, which any thread may use."""

    def import_part(self, kind: PartKind, tensors: Sequence[Tensor], num_tokens: int) -> PartHandle:
        """The inverse of `export`, bit for bit; `num_tokens` are those of the block.

        Raises:
            IncompatibleCacheError: if the tensors do not have the model's names, shapes and types.
        """

    def batch_bytes(self, rows: Sequence[int]) -> int:
        """Bytes that a batch takes at most whose rows hold so many tokens each.

        Included is what is copied when one of them joins, leaves or grows.
        """

    def held_bytes(self) -> int:
        """Bytes that the KV of all attached sequences takes now."""

    def chosen(self, sequence: SequenceId) -> SampledToken | None:
        """The token that a decoding sequence would get in the next step, whose KV is not there yet.

        None if it does not decode. For a sequence that is about to be released.
        """

    def release(self, sequence: SequenceId) -> None:
        """Forget a sequence, running or not. Unknown ones are ignored."""

    def reset(self) -> None:
        """Forget all sequences, whatever state the engine is in."""
