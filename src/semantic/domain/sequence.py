"""One token sequence on its way through the engine.

The states and their legal changes are one table; an illegal change raises and changes nothing.
There is no difference in kind between prefill and decode: `num_computed` catches up with the
tokens that are known (compare vLLM's v1 scheduler).
"""

import enum
from dataclasses import dataclass, field

from semantic.domain.fair_share import Party
from semantic.domain.ids import DEFAULT_TENANT, AgentKey, SequenceId, TenantId, TokenId
from semantic.domain.sampling import SamplingParams


class SequenceState(enum.Enum):
    """Where a sequence is. `LOADING`: its blocks are being read; others keep running.

    From wherever it is it may have to wait once more: when memory is short, or a step has failed.
    """

    WAITING = "waiting"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


_TRANSITIONS: dict[SequenceState, frozenset[SequenceState]] = {
    SequenceState.WAITING: frozenset(
        {SequenceState.LOADING, SequenceState.PREFILL, SequenceState.FINISHED}
    ),
    SequenceState.LOADING: frozenset(
        {SequenceState.WAITING, SequenceState.PREFILL, SequenceState.FINISHED}
    ),
    SequenceState.PREFILL: frozenset(
        {SequenceState.WAITING, SequenceState.DECODE, SequenceState.FINISHED}
    ),
    SequenceState.DECODE: frozenset({SequenceState.WAITING, SequenceState.FINISHED}),
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
    were not computed for this request. At least one token is always computed. What was generated
    before it had to wait once more is prefilled like the prompt: `prefill` is both. The first
    `system_end` tokens of the prompt may begin other conversations, too. `marks` are positions in
    it, ascending, at which prefill has to stop for a moment. What it computes is its `tenant`'s,
    and is counted for its `agent`.
    """

    id: SequenceId
    prompt: tuple[TokenId, ...]
    sampling: SamplingParams
    max_tokens: int
    system_end: int = 0
    marks: tuple[int, ...] = ()
    tenant: TenantId = DEFAULT_TENANT
    agent: AgentKey | None = None
    state: SequenceState = SequenceState.WAITING
    num_cached: int = 0
    num_computed: int = 0
    generated: list[TokenId] = field(default_factory=list)
    prefill: tuple[TokenId, ...] = field(init=False)
    interrupted: bool = False

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a sequence needs at least one prompt token")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        self.prefill = self.prompt

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt)

    @property
    def party(self) -> Party:
        """Who shares the engine with others: its agent, or it alone."""
        return self.id if self.agent is None else (self.tenant, self.agent)

    @property
    def num_prefill(self) -> int:
        """Tokens of the prompt, and of what had been generated before an interruption."""
        return len(self.prefill)

    @property
    def remaining_prefill(self) -> int:
        """Tokens to prefill without KV."""
        return max(0, self.num_prefill - self.num_computed)

    @property
    def remaining_answer(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - len(self.generated)

    @property
    def stretch(self) -> int:
        """Tokens to prefill up to the next mark, or to the end."""
        ahead = (mark for mark in self.marks if self.num_computed < mark < self.num_prefill)
        return min(ahead, default=max(self.num_computed, self.num_prefill)) - self.num_computed

    def move(self, state: SequenceState) -> None:
        """Change state.

        Raises:
            IllegalTransitionError: if the table does not allow it; nothing has changed then.
        """
        if state not in _TRANSITIONS[self.state]:
            raise IllegalTransitionError(f"{self.id}: {self.state.name} -> {state.name}")
        self.state = state

    def restored(self, num_tokens: int) -> None:
        """Start prefill with the KV of the first `num_tokens` tokens in place.

        Raises:
            ValueError: if that leaves no token to compute.
        """
        if not 0 <= num_tokens < self.num_prefill:
            raise ValueError(f"{num_tokens} of {self.num_prefill} tokens restored")
        self.move(SequenceState.PREFILL)
        self.num_computed = num_tokens
        if not self.interrupted:
            self.num_cached = num_tokens

    def interrupt(self) -> None:
        """Wait once more: its KV leaves the engine, what it has generated stays.

        Raises:
            IllegalTransitionError: if it has ended, or waits already.
        """
        begun = self.state is not SequenceState.LOADING
        self.move(SequenceState.WAITING)
        self.interrupted |= begun
        self.num_computed = 0
        self.prefill = (*self.prompt, *self.generated)

    def prefilled(self, num_tokens: int) -> None:
        """Count `num_tokens` more tokens as computed; after the last, decoding begins.

        Raises:
            ValueError: if there are not that many.
        """
        if self.state is not SequenceState.PREFILL or num_tokens > self.remaining_prefill:
            raise ValueError(f"{num_tokens} tokens prefilled, {self.remaining_prefill} expected")
        self.num_computed += num_tokens
        if self.remaining_prefill == 0:
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

    def chose(self, token: TokenId) -> None:
        """Append a generated token whose KV will not be computed before an interruption.

        Raises:
            ValueError: if the sequence is not decoding.
        """
        self.decoded(token)
        self.num_computed -= 1

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
