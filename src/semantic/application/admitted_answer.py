"""A request on its way through the engine, and what its client is told of the end."""

from dataclasses import dataclass

from semantic.application.answer_clock import AnswerClock
from semantic.application.engine_job import JobEnded
from semantic.application.miss_report import Comparison
from semantic.application.prompts import Prompt
from semantic.application.turn_memory import OpenTurn
from semantic.domain.chat import (
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Progress,
    PromptScored,
    Usage,
)
from semantic.domain.ids import SequenceId
from semantic.ports.answer_constraints import Constraint


@dataclass(frozen=True, slots=True)
class AdmittedAnswer:
    """A request on its way through the engine."""

    request: GenerationRequest
    prompt: Prompt
    turn: OpenTurn
    compared: Comparison
    max_tokens: int
    sequence: SequenceId
    clock: AnswerClock
    constraint: Constraint | None = None

    @property
    def only_warms(self) -> bool:
        """Whether the prompt is wanted in memory, and no answer."""
        return self.max_tokens == 0

    def shows(self, event: GenerationEvent) -> bool:
        """Whether the client is told of it."""
        return not self.only_warms or isinstance(event, Progress | PromptScored)

    def usage(self, ended: JobEnded) -> Usage:
        """Tokens that it has taken."""
        return Usage(
            len(self.prompt.tokens),
            ended.cached_tokens,
            len(ended.generated),
            ended.reasoning_tokens,
        )

    def ended(self, ended: JobEnded) -> JobEnded:
        """The end as it is told: the token that ends a prompt's computing is no answer."""
        if not self.only_warms:
            return ended
        stopped = ended.reason is FinishReason.CANCELLED
        reason = ended.reason if stopped else FinishReason.LENGTH
        return JobEnded(reason, ended.cached_tokens, generated=(), remembered=None)
