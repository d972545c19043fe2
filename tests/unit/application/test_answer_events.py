from itertools import count

from tests.fakes.fixed_clock import FixedClock
from tests.fakes.letter_tokenizer import LetterTokenizer

from semantic.application.answer_clock import AnswerClock
from semantic.application.answer_events import AnswerEvents
from semantic.application.engine_job import (
    JobArguments,
    JobCall,
    JobPiece,
    JobReasoning,
    JobText,
)
from semantic.domain.chat import CallDelta, CallStarted, ReasoningDelta, TextDelta


def test_calls_are_numbered_and_get_ids() -> None:
    numbers = count()
    events = AnswerEvents(
        LetterTokenizer(), AnswerClock(FixedClock()), 1, lambda: f"id{next(numbers)}"
    )
    told: list[JobPiece] = [
        JobReasoning("Hm"),
        JobText("a"),
        JobCall("get"),
        JobArguments("{"),
        JobArguments("}"),
    ]
    told += [JobCall("put"), JobArguments("{}")]
    assert [event for one in told for event in events.of(one)] == [
        ReasoningDelta("Hm"),
        TextDelta("a"),
        CallStarted(0, "id0", "get"),
        CallDelta(0, "{"),
        CallDelta(0, "}"),
        CallStarted(1, "id1", "put"),
        CallDelta(1, "{}"),
    ]
