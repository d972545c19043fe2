import asyncio
from dataclasses import dataclass, field

import pytest
from tests.contracts.test_inference_events import InferenceContract, request_for
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry, Value
from tests.fakes.scripted_inference import MODEL, ScriptedInference, Step, answer

from semantic.application.request_log import RequestLog
from semantic.domain.chat import FinishReason, GenerationRequest, Started, TextDelta
from semantic.domain.errors import EngineError, InvalidRequestError
from semantic.domain.reuse import MissCause, Reuse
from semantic.ports.inference import Inference


@dataclass
class Logged:
    """A scripted inference behind the log."""

    script: tuple[Step, ...] = answer("Hel", "lo", cached=4)
    refusal: Exception | None = None
    telemetry: RecordedTelemetry = field(default_factory=RecordedTelemetry)
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        self.inner = ScriptedInference(self.script, self.refusal)
        self.log = RequestLog(self.inner, self.clock, self.telemetry)

    def read(self, events: int | None = None) -> None:
        """Read so many events, or all, and close; each takes a second to come."""

        async def run() -> None:
            stream = await self.log.generate(request_for(MODEL.model_id))
            count = 0
            while events is None or count < events:
                self.clock.now += 1
                try:
                    await anext(stream)
                except StopAsyncIteration:
                    break
                count += 1
            await stream.aclose()

        asyncio.run(run())

    def line(self) -> dict[str, Value]:
        """The fields of the one line."""
        [(level, event, fields)] = self.telemetry.events
        assert (level, event) == ("info", "request_finished")
        return fields


class TestRequestLogEvents(InferenceContract):
    def serving(self) -> tuple[Inference, str]:
        return Logged().log, MODEL.model_id

    def refusing(self) -> tuple[Inference, GenerationRequest]:
        refusal = InvalidRequestError("no", field="messages")
        return Logged(refusal=refusal).log, request_for(MODEL.model_id)


def test_a_finished_request_is_one_line() -> None:
    logged = Logged()
    logged.read()
    assert logged.line() == {
        "end": "stop",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "hot_tokens": 0,
        "warm_tokens": 0,
        "first_difference": None,
        "miss_cause": None,
        "changed_message": None,
        "completion_tokens": 2,
        "queued_s": 0.25,
        "ttft_s": 0.75,
        "duration_s": 4.0,
    }


def test_the_line_says_how_the_answer_ended() -> None:
    logged = Logged(script=answer("x", reason=FinishReason.LENGTH))
    logged.read()
    assert logged.line()["end"] == "length"


def test_a_reader_who_left_is_told_from_one_who_stayed() -> None:
    logged = Logged()
    logged.read(events=2)
    assert logged.line()["end"] == "cancelled"
    assert logged.line()["completion_tokens"] is None
    assert (logged.line()["queued_s"], logged.line()["ttft_s"]) == (1.0, 2.0)
    assert logged.inner.closed.is_set()


def test_an_answer_that_was_never_read_is_closed_and_told() -> None:
    logged = Logged()
    logged.read(events=0)
    assert logged.line()["prompt_tokens"] is None
    assert logged.line()["ttft_s"] is None


def test_a_failure_is_named_without_its_words() -> None:
    logged = Logged(script=(Started(10, 0), TextDelta("x"), EngineError("secret")))
    with pytest.raises(EngineError):
        logged.read()
    assert (logged.line()["end"], logged.line()["error"]) == ("failed", "EngineError")
    assert "secret" not in str(logged.telemetry.events)


def test_a_refusal_is_a_line_too() -> None:
    logged = Logged(refusal=InvalidRequestError("secret", field="messages"))
    with pytest.raises(InvalidRequestError):
        logged.read()
    assert logged.telemetry.events == [
        ("info", "request_refused", {"error": "InvalidRequestError"})
    ]


def test_the_rest_is_passed_on() -> None:
    logged = Logged()
    assert logged.log.models() == logged.inner.models()
    assert logged.log.ready()
    logged.inner.is_ready = False
    assert not logged.log.ready()
    assert logged.log.failure() is None
    logged.inner.ails = "it hangs"
    assert logged.log.failure() == "it hangs"


def test_it_says_where_reused_tokens_came_from_and_why_there_were_not_more() -> None:
    reuse = Reuse(3, 4, 8, MissCause.MESSAGES_CHANGED, message=2)
    logged = Logged(script=(Started(20, 7, reuse), *answer("Hello")[1:]))
    logged.read()
    told = {
        "hot_tokens": 3,
        "warm_tokens": 4,
        "first_difference": 8,
        "miss_cause": "messages_changed",
        "changed_message": 2,
    }
    assert told.items() <= logged.line().items()
