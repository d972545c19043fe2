"""One answer's events: from what the engine tells to what its reader is told."""

from collections.abc import Callable, Iterator

from semantic.application.answer_clock import AnswerClock
from semantic.application.engine_job import (
    JobArguments,
    JobCall,
    JobEnded,
    JobEvent,
    JobFailed,
    JobPiece,
    JobProgress,
    JobReasoning,
    JobScored,
    JobStarted,
    JobText,
    ScoredId,
)
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    GenerationEvent,
    Progress,
    PromptScored,
    ReasoningDelta,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
)
from semantic.ports.tokenizer import Tokenizer


class AnswerEvents:
    """Translates all but the end, for which more has to be known. `clock` hears of everything.

    `new_call_id` makes the ids of calls, of letters and digits.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        clock: AnswerClock,
        prompt_tokens: int,
        new_call_id: Callable[[], str],
    ) -> None:
        self._tokenizer = tokenizer
        self._clock = clock
        self._prompt_tokens = prompt_tokens
        self._new_call_id = new_call_id
        self._num_calls = 0

    def of(self, event: JobEvent) -> Iterator[GenerationEvent]:
        """What the reader is told of it, if anything."""
        self._clock.heard(event)
        match event:
            case JobStarted(cached_tokens):
                yield Started(self._prompt_tokens, cached_tokens)
            case JobProgress(computed, total):
                if self._clock.progress_is_due():
                    yield Progress(total, computed)
            case JobScored(first, tokens):
                yield PromptScored(
                    self._tokenizer.token_bytes(first), tuple(map(self._scored, tokens))
                )
            case JobFailed() | JobEnded():
                pass
            case _:
                yield self._piece(event)

    def _piece(self, event: JobPiece) -> GenerationEvent:
        match event:
            case JobText(text, tokens):
                return TextDelta(text, tuple(map(self._scored, tokens)))
            case JobReasoning(text):
                return ReasoningDelta(text)
            case JobCall(name):
                self._num_calls += 1
                return CallStarted(self._num_calls - 1, self._new_call_id(), name)
            case JobArguments(text):
                return CallDelta(self._num_calls - 1, text)

    def _scored(self, scored: ScoredId) -> ScoredToken:
        """A token's ids as what they stand for."""
        known = scored.logprobs
        return ScoredToken(
            chosen=TokenText(self._tokenizer.token_bytes(scored.token), known.logprob),
            top=tuple(
                TokenText(self._tokenizer.token_bytes(token), logprob)
                for token, logprob in known.top
            ),
        )
