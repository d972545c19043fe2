"""The engine, seen from the application.

It works on opaque handles, so that hot reuse never leaves the device and another engine fits
behind it. One thread owns an executor: every call comes from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from semantic.domain.block import Part
from semantic.domain.cache_spec import Granularity, ModelCacheSpec
from semantic.domain.ids import Namespace, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import StepPlan, StepResult


class BlockHandle(Protocol):
    """KV of consecutive tokens, held by the engine until nobody refers to it."""

    @property
    def num_tokens(self) -> int:
        """Tokens it holds."""

    @property
    def nbytes(self) -> int:
        """Device memory it takes."""


@dataclass(frozen=True, slots=True)
class AttachedBlock:
    """The first `length` tokens of a handle."""

    handle: BlockHandle
    length: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do with the model it runs."""

    granularity: Granularity
    spec: ModelCacheSpec | None
    """None if the KV cannot be described, and then it is not kept either."""
    namespace: Namespace
    max_context: int
    """Tokens of prompt and answer together."""
    max_batch: int
    """Sequences that may run at once; 1 for models whose ragged batches are wrong."""


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
    ) -> None:
        """Make a sequence known; `blocks` hold the KV of `tokens`, in order. Copies both.

        Raises:
            IncompatibleCacheError: if the blocks do not hold exactly those tokens.
        """

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step. After an exception only `reset` may be called.

        Raises:
            EngineError: if the engine failed; the KV of running sequences is lost.
        """

    def seal(self, sequence: SequenceId, start: int, end: int) -> BlockHandle:
        """Copy the KV of positions start..end of a sequence into an immutable handle.

        Raises:
            ValueError: if those positions have not all been computed.
            IncompatibleCacheError: if this model's KV cannot be kept.
            EngineError: if the cache does not hold exactly the tokens that went in.
        """

    def export(self, handle: BlockHandle) -> tuple[Part, ...]:
        """The handle's KV as bytes, which any thread may use."""

    def import_parts(self, parts: Sequence[Part], num_tokens: int) -> BlockHandle:
        """The inverse of `export`, bit for bit.

        Raises:
            IncompatibleCacheError: if the parts do not have the model's names, shapes and type.
        """

    def release(self, sequence: SequenceId) -> None:
        """Forget a sequence, running or not. Unknown ones are ignored."""

    def reset(self) -> None:
        """Forget all sequences, whatever state the engine is in."""
