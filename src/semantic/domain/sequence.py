"""One token sequence on its way through the engine.

The states and their legal changes are one table; an illegal change raises and changes nothing.
There is no difference in kind between prefill and decode: `num_computed` catches up with the
tokens that are known (compare vLLM's v1 scheduler).
"""

import enum
from dataclasses import dataclass, field

from semantic.domain.ids import DEFAULT_TENANT, SequenceId, TenantId, TokenId
from semantic.domain.sampling import SamplingParams


class SequenceState(enum.Enum):
    """Where a sequence is. `LOADING`: its blocks are being read; others keep running."""

    WAITING = "waiting"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


_TRANSITIONS: dict[SequenceState, frozenset[SequenceState]] = {
    SequenceState.WAITING: frozenset(
        {SequenceState.LOADING, SequenceState.PREFILL, SequenceState.FINISHED}
    ),
    SequenceState.LOADING: frozenset({SequenceState.PREFILL, SequenceState.FINISHED}),
    SequenceState.PREFILL: frozenset({SequenceState.DECODE, SequenceState.FINISHED}),
    SequenceState.DECODE: frozenset({SequenceState.FINISHED}),
    SequenceState.FINISHED: frozenset(),
}


class IllegalTransitionError(Exception):
    """A sequence was asked to go where it cannot go: a bug of ours."""


@dataclass(slots=True)
class Sequence:
    """A prompt, what has been generated after it, and how much of both has KV.

        prompt                      generated
        |----------------|----------|-------|
        0   num_cached        num_prompt    num_tokens
        |------------- num_computed ------->

    `num_computed` counts the tokens whose KV is in the engine; `num_cached` those of them that
    were not computed for this request. At least one prompt token is always computed. The first
    `system_end` tokens of the prompt may begin other conversations, too. `marks` are positions in
    the prompt, ascending, at which prefill has to stop for a moment. What it computes is its
    `tenant`'s.
    """

    id: SequenceId
    prompt: tuple[TokenId, ...]
    sampling: SamplingParams
    max_tokens: int
    system_end: int = 0
    marks: tuple[int, ...] = ()
    tenant: TenantId = DEFAULT_TENANT
    state: SequenceState = SequenceState.WAITING
    num_cached: int = 0
    num_computed: int = 0
    generated: list[TokenId] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a sequence needs at least one prompt token")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt)

    @property
    def remaining_prompt(self) -> int:
        """Prompt tokens without KV."""
        return max(0, self.num_prompt - self.num_computed)

    @property
    def stretch(self) -> int:
        """Prompt tokens up to the next stop: a mark, the last token, or else the end.

        The last token stands apart: the model computes it with the first of the answer, and what
        precedes it has to be captured before. Windows move on.
        """
        stops = [mark for mark in self.marks if mark > self.num_computed]
        end = min([*stops, self.num_prompt - 1])
        return end - self.num_computed if end > self.num_computed else self.remaining_prompt

    def move(self, state: SequenceState) -> None:
        """Change state.

        Raises:
            IllegalTransitionError: if the table does not allow it; nothing has changed then.
        """
        if state not in _TRANSITIONS[self.state]:
            raise IllegalTransitionError(f"{self.id}: {self.state.name} -> {state.name}")
        self.state = state

    def restored(self, num_tokens: int) -> None:
        """Start prefill with the KV of the first `num_tokens` prompt tokens in place.

        Raises:
            ValueError: if that leaves no prompt token to compute.
        """
        if not 0 <= num_tokens < self.num_prompt:
            raise ValueError(f"{num_tokens} of {self.num_prompt} prompt tokens restored")
        self.move(SequenceState.PREFILL)
        self.num_cached = self.num_computed = num_tokens

    def prefilled(self, num_tokens: int) -> None:
        """Count `num_tokens` more prompt tokens as computed; after the last, decoding begins.

        Raises:
            ValueError: if there are not that many.
        """
        if self.state is not SequenceState.PREFILL or num_tokens > self.remaining_prompt:
            raise ValueError(f"{num_tokens} tokens prefilled, {self.remaining_prompt} expected")
        self.num_computed += num_tokens
        if self.remaining_prompt == 0:
            self.move(SequenceState.DECODE)

    def decoded(self, token: TokenId) -> None:
        """Append a generated token, whose KV the engine computes as it hands it out.

        Raises:
            ValueError: if the sequence is not decoding.
        """
        if self.state is not SequenceState.DECODE:
            raise ValueError(f"token for a sequence that is {self.state.name}")
        self.generated.append(token)
        self.num_computed += 1

    def computed_tokens(self, start: int, end: int) -> tuple[TokenId, ...]:
        """Ids of the positions start..end, all of which have KV.

        Raises:
            ValueError: if some of them have none.
        """
        if not 0 <= start <= end <= self.num_computed:
            raise ValueError(f"{start}..{end} of {self.num_computed} computed tokens")
        if end <= self.num_prompt:
            return self.prompt[start:end]
        return (*self.prompt, *self.generated)[start:end]
