"""What the engine does next: a frozen value, decided before anything is touched."""

from dataclasses import dataclass

from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import TokenLogprobs


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Prompt tokens to process. With `last`, the sequence decodes afterwards.

    Then it `joins` the batch in which another one decodes, or begins its own.
    """

    sequence: SequenceId
    tokens: tuple[TokenId, ...]
    last: bool
    joins: SequenceId | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: a token for each decoding sequence, then at most one chunk of prefill."""

    decode: tuple[SequenceId, ...] = ()
    prefill: PrefillChunk | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.decode and self.prefill is None


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token that the engine chose for a sequence; its KV is in the cache or on its way.

    It has `logprobs` if the sequence's sampling asks for them.
    """

    sequence: SequenceId
    token: TokenId
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step brought: one token for every sequence in the plan's `decode`.

    `scored` are the tokens of the plan's chunk, if its sequence's sampling asks for them and all
    of it is computed: all but the prompt's first.
    """

    sampled: tuple[SampledToken, ...] = ()
    scored: tuple[TokenLogprobs, ...] = ()


def next_chunk(computed: int, remaining: int, budget: int, block_size: int) -> int:
    """Tokens to prefill next: it ends on a block boundary, or stays inside one block.

        |---block---|---block---|---block---|--
             ^computed          ^end at budget, rounded down to a boundary

    Inside a block it ends on a multiple of a power of two, if not with all that remains: the same
    shapes come again and again, for each of which some engines prepare once. `remaining` and
    `budget` are at least 1.
    """
    end = computed + min(remaining, budget)
    boundary = end // block_size * block_size
    if boundary > computed:
        return boundary - computed
    even = end // (grain := 1 << (budget.bit_length() - 1)) * grain
    return even - computed if budget < remaining and even > computed else end - computed
