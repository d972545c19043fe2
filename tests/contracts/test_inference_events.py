"""What every `Inference` promises of its events, whoever implements it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest
from tests.fakes.scripted_inference import MODEL, Pause, ScriptedInference, answer

from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    ChatMessage,
    Conversation,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Progress,
    PromptScored,
    ReasoningDelta,
    Role,
    Started,
    TextDelta,
)
from semantic.domain.errors import EngineError, ModelNotFoundError, SemanticError
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams
from semantic.ports.inference import Inference


def check_order(events: Sequence[GenerationEvent]) -> None:
    """`Started`, any number of pieces of the answer, `Finished`; the counts fit together.

    Progress, which grows, comes anywhere between the first and the last. The arguments of a call
    follow its start and no other's.
    """
    first, *between, last = events
    assert isinstance(first, Started)
    assert isinstance(last, Finished)
    begun: list[int] = []
    for event in between:
        match event:
            case CallStarted(index):
                assert index == len(begun)
                begun.append(index)
            case CallDelta(index):
                assert index == begun[-1]
            case _:
                assert isinstance(event, ReasoningDelta | TextDelta | Progress | PromptScored)
    computed = [event.computed_tokens for event in between if isinstance(event, Progress)]
    assert computed == sorted(computed)
    assert all(count <= first.prompt_tokens for count in computed)
    assert last.usage.prompt_tokens == first.prompt_tokens
    assert 0 <= last.usage.cached_tokens < last.usage.prompt_tokens


def request_for(model: str) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("r"),
        model=model,
        prompt=Conversation((ChatMessage(Role.USER, "hello"),)),
        sampling=SamplingParams(max_tokens=4),
    )


class InferenceContract(ABC):
    """Derive from it and say how to make what is tested."""

    @abstractmethod
    def serving(self) -> tuple[Inference, str]:
        """An inference that answers, and the name of its model."""

    @abstractmethod
    def refusing(self) -> tuple[Inference, GenerationRequest]:
        """An inference, and a request that it cannot serve."""

    def test_events_come_in_order(self) -> None:
        inference, model = self.serving()

        async def run() -> list[GenerationEvent]:
            return [event async for event in await inference.generate(request_for(model))]

        check_order(asyncio.run(run()))

    def test_events_can_be_closed_at_any_point_and_again(self) -> None:
        inference, model = self.serving()

        async def run(num_taken: int) -> None:
            events = await inference.generate(request_for(model))
            for _ in range(num_taken):
                await anext(events)
            await events.aclose()
            await events.aclose()

        for num_taken in range(3):
            asyncio.run(run(num_taken))

    def test_what_is_wrong_is_said_before_the_first_event(self) -> None:
        inference, request = self.refusing()

        with pytest.raises(SemanticError):
            asyncio.run(inference.generate(request))

    def test_the_model_that_answers_is_listed(self) -> None:
        inference, model = self.serving()
        assert model in {info.model_id for info in inference.models()}
        assert inference.ready()


class TestScriptedInference(InferenceContract):
    def serving(self) -> tuple[Inference, str]:
        return ScriptedInference(answer("Hel", "lo", cached=4)), MODEL.model_id

    def refusing(self) -> tuple[Inference, GenerationRequest]:
        refusal = ModelNotFoundError("other", tried=(MODEL.model_id,))
        return ScriptedInference(refusal=refusal), request_for("other")

    def test_a_script_can_hang_until_it_is_closed(self) -> None:
        inference = ScriptedInference((Pause.FOREVER,))

        async def run() -> None:
            events = await inference.generate(request_for(MODEL.model_id))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
            await events.aclose()

        asyncio.run(run())
        assert inference.cancelled.is_set()

    def test_a_script_can_fail_on_the_way(self) -> None:
        inference = ScriptedInference((Started(10, 0), EngineError("boom")))

        async def run() -> None:
            async for _ in await inference.generate(request_for(MODEL.model_id)):
                pass

        with pytest.raises(EngineError, match="boom"):
            asyncio.run(run())
