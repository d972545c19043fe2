"""Whole answers, put together from their events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from semantic.adapters.inbound.openai.side_by_side import Indexed
from semantic.adapters.inbound.openai.tally import Tally
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    Finished,
    FinishReason,
    GenerationEvent,
    PromptScored,
    ReasoningDelta,
    ScoredToken,
    TextDelta,
)
from semantic.domain.errors import EngineError


@dataclass(slots=True)
class Call:
    """A call with its arguments so far."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Gathered:
    """What has come of one answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    tokens: list[ScoredToken] = field(default_factory=list)
    prompt: PromptScored | None = None
    reason: FinishReason | None = None

    def add(self, event: GenerationEvent) -> None:
        """The next of its events."""
        match event:
            case TextDelta(text, tokens):
                self.text += text
                self.tokens += tokens
            case ReasoningDelta(text):
                self.reasoning += text
            case CallStarted(_, call_id, name):
                self.calls.append(Call(call_id, name))
            case CallDelta(index, arguments):
                self.calls[index].arguments += arguments
            case PromptScored():
                self.prompt = event
            case Finished(reason):
                self.reason = reason
            case _:
                pass


async def gathered(events: AsyncIterator[Indexed], tally: Tally) -> list[Gathered]:
    """All answers.

    Raises:
        EngineError: if the events end before the answers do.
    """
    answers = [Gathered() for _ in range(tally.num_answers)]
    async for index, event in events:
        answers[index].add(event)
        tally.saw(index, event)
        if tally.complete:
            return answers
    raise EngineError("the answer has no end")
