"""One request inside the engine: its sequence, its text, its chain of blocks, who listens."""

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace

from semantic.application.chain import Chain
from semantic.application.text_stream import TextStream
from semantic.domain.answer_pieces import AnswerPiece, CallArguments, CallBegun, Content, Reasoning
from semantic.domain.block import PartId
from semantic.domain.chat import FinishReason
from semantic.domain.errors import SemanticError
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import BlockUse
from semantic.domain.reuse import MissCause
from semantic.domain.sampling import TokenLogprobs
from semantic.domain.sequence import Sequence
from semantic.domain.step_plan import SampledToken
from semantic.ports.answer_constraints import Constraint
from semantic.ports.model_executor import PartHandle


@dataclass(frozen=True, slots=True)
class ScoredId:
    """A token of the answer, and how likely it was."""

    token: TokenId
    logprobs: TokenLogprobs


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Prefill begins; `cached_tokens` of the prompt are reused, `warm_tokens` of them were read.

    `obstacle` is why it is not more of what the engine knows, if it is not all.
    """

    cached_tokens: int
    warm_tokens: int = 0
    obstacle: MissCause | None = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """So many of the prompt's tokens have their KV."""

    computed: int
    total: int


@dataclass(frozen=True, slots=True)
class JobScored:
    """All of the prompt is computed, and so likely were its tokens; the first has no score."""

    first: TokenId
    tokens: tuple[ScoredId, ...]


@dataclass(frozen=True, slots=True)
class JobText:
    """More of the answer's text.

    If logprobs are asked for, with the tokens that have ended in it, each once and in order.
    """

    text: str
    tokens: tuple[ScoredId, ...] = ()


@dataclass(frozen=True, slots=True)
class JobReasoning:
    """More of what the model reasons."""

    text: str


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call begins, of the tool `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class JobArguments:
    """More of the last call's arguments."""

    text: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The answer is complete and its blocks are sealed.

    `remembered` are the generated ids that make up exactly what was shown; None if no whole number
    of tokens does. `stop` is the stop string that ended it, if one did; `reasoning_tokens` of the
    generated are neither text nor calls.
    """

    reason: FinishReason
    cached_tokens: int
    generated: tuple[TokenId, ...]
    remembered: tuple[TokenId, ...] | None
    stop: str | None = None
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The request could not be finished."""

    error: SemanticError


JobPiece = JobText | JobReasoning | JobCall | JobArguments
"""What an answer is told in."""

JobEvent = JobStarted | JobProgress | JobScored | JobPiece | JobEnded | JobFailed


@dataclass(slots=True)
class Loading:
    """Blocks that a sequence waits for, since it `asked`: which, what is there, what is to come.

    The parts that are there are `held`, and pinned in memory meanwhile; the bytes of those that
    are `missing` are told with them. They are read once it is its turn, from `begun` on. Once one
    has `failed`, another way to begin has to be found. No more than `most_bytes` are to be read.
    Those that had to be waited for are `cold`; the `obstacle` is what keeps it from more.
    """

    asked: float
    uses: tuple[BlockUse, ...] = ()
    held: dict[PartId, PartHandle] = field(default_factory=dict)
    missing: dict[PartId, int] = field(default_factory=dict)
    nbytes: int = 0
    begun: float | None = None
    failed: bool = False
    most_bytes: int | None = None
    cold: set[PartId] = field(default_factory=set)
    obstacle: MissCause | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt that are to be restored."""
        return sum(use.length for use in self.uses)

    @property
    def started(self) -> JobStarted:
        """What is told once the blocks are attached."""
        warm = sum(use.length for use in self.uses if not self.cold.isdisjoint(use.ids))
        return JobStarted(self.num_tokens, warm, self.obstacle)


@dataclass(frozen=True, slots=True)
class Following:
    """Another job computes the first `position` tokens that a job begins with, too."""

    leader: "Job"
    position: int


@dataclass(slots=True)
class Job:
    """Mutable; owned by the engine's thread once submitted. `emit` may be called from there.

    Once its capture has failed it is tried again only at the end, not with every token. `strikes`
    are the steps that failed with it in them, `passed` the jobs that began before it because they
    needed less memory; `told` is the progress that was. What is done for the job is done in
    `context`, so that log lines name its request.
    """

    sequence: Sequence
    text: TextStream
    stop_tokens: frozenset[TokenId]
    emit: Callable[[JobEvent], None]
    chain: Chain = field(default_factory=Chain)
    loading: Loading | None = None
    following: Following | None = None
    started: bool = False
    told: int = 0
    strikes: int = 0
    passed: int = 0
    capture_failed: bool = False
    context: Context = field(default_factory=copy_context)
    scored: list[ScoredId] = field(default_factory=list)
    num_told: int = 0
    constraint: Constraint | None = None
    prompt_scores: list[TokenLogprobs] = field(default_factory=list)
    prompt_told: bool = False

    @property
    def scores_prompt(self) -> bool:
        """Whether scores of the prompt are yet to be told: then all of it has to be computed."""
        return self.sequence.sampling.prompt_logprobs is not None and not self.prompt_told

    def scored_prompt(self, scores: tuple[TokenLogprobs, ...]) -> JobScored | None:
        """Add what a chunk brought; all of them, once there are as many as the prompt has."""
        prompt = self.sequence.prompt
        self.prompt_scores += scores
        if not self.scores_prompt or len(self.prompt_scores) < len(prompt) - 1:
            return None
        self.prompt_told = True
        # What was answered before an interruption may follow.
        found = zip(prompt[1:], self.prompt_scores, strict=False)
        scored = tuple(ScoredId(token, one) for token, one in found)
        self.prompt_scores.clear()
        return JobScored(prompt[0], scored)

    def took(self, sampled: SampledToken) -> list[JobPiece]:
        """Add a token to the answer; what can be told of it now."""
        if sampled.logprobs is not None:
            self.scored.append(ScoredId(sampled.token, sampled.logprobs))
        return self._told(self.text.add(sampled.token))

    def finish(self, *, cut: bool) -> list[JobPiece]:
        """What is left to be told, once the last token is in; `cut`: more would have come."""
        told = self._told(self.text.finish(cut=cut))
        count = self.text.tokens_begun()
        # What ends a turn is no part of the answer.
        silent = count > self.text.tokens_ended()
        if silent and not self.text.stopped and self.sequence.generated[-1] in self.stop_tokens:
            count -= 1
        if rest := self._scores(count):
            if told and isinstance(last := told[-1], JobText):
                told[-1] = replace(last, tokens=last.tokens + rest)
            else:
                told.append(JobText("", rest))
        return told

    def _told(self, pieces: tuple[AnswerPiece, ...]) -> list[JobPiece]:
        return [event for piece in pieces if (event := self._event(piece))]

    def _event(self, piece: AnswerPiece) -> JobPiece | None:
        match piece:
            case Content(text, end):
                return JobText(text, self._scores(self.text.tokens_ended(end)))
            case Reasoning(text):
                return JobReasoning(text)
            case CallBegun(name):
                return JobCall(name)
            case CallArguments(text):
                return JobArguments(text)
            case _:
                return None

    def _scores(self, count: int) -> tuple[ScoredId, ...]:
        """Those of the first `count` tokens that are content and have not been told."""
        told = range(self.num_told, min(count, len(self.scored)))
        self.num_told = max(self.num_told, count)
        return tuple(self.scored[index] for index in told if self.text.is_content(index))

    def ended(self, reason: FinishReason) -> JobEnded:
        """The event that closes the job."""
        generated = tuple(self.sequence.generated)
        shown = self.text.tokens_shown()
        called = self.text.called and self.text.stop is None
        return JobEnded(
            reason=FinishReason.TOOL_CALLS if called and reason is FinishReason.STOP else reason,
            cached_tokens=self.sequence.num_cached,
            generated=generated,
            remembered=None if shown is None else generated[:shown],
            stop=self.text.stop,
            reasoning_tokens=self.text.reasoning_tokens(),
        )
