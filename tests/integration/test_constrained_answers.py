"""Answers held to forms, on the whole application and the real default model, at temperature 1.

The model is too weak to choose tools well, and what it draws is mostly nonsense: valid it is.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import jsonschema
import pytest
from tests.fakes.agent_world import settings_of

from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    PromptScored,
    Role,
    TextDelta,
)
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import NO_TOOLS, Calling, JsonAnswer, Tool, ToolUse
from semantic.entrypoints.bootstrap import Application, build

pytestmark = pytest.mark.timeout(900)
"""On a busy machine; it takes a minute of a core."""

Json = dict[str, object]
SHORT: Json = {"type": "string", "maxLength": 8}
FEW: Json = {"type": "integer", "minimum": -20, "maximum": 500}


def of(required: Sequence[str] | None = None, /, **properties: Json) -> Json:
    """An object with those properties, all of which are required unless it says which."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


SCHEMAS: tuple[Json, ...] = (
    of(),
    of(a=SHORT),
    of(a=FEW, b=SHORT),
    of((), a=FEW, b=SHORT, c={"type": "boolean"}),
    of(a={"enum": ["north", "south", 3, None, {"x": [1]}]}),
    of(a={"const": 'always "this" é'}),
    of(a={"type": "array", "items": FEW, "maxItems": 4}),
    of(a={"type": "array", "items": SHORT, "minItems": 2, "maxItems": 2}),
    of(a=of(b=of(c=of(d=FEW)))),
    of(a={"anyOf": [FEW, {"type": "null"}]}, b={"anyOf": [SHORT, of(x=FEW)]}),
    of(a={"type": ["string", "null"], "maxLength": 5}),
    of(a={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    of(a={"type": "string", "format": "date"}, b={"type": "string", "format": "uuid"}),
    of(a={"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25}),
    {**of(a={"$ref": "#/$defs/point"}), "$defs": {"point": of(x=FEW, y=FEW)}},
    {**of(a={"$ref": "#/$defs/list"}), "$defs": {"list": of((), v=FEW, next={"enum": [None]})}},
    of(a={"type": "array", "prefixItems": [FEW, SHORT], "items": False, "minItems": 2}),
    of(a={"type": "object", "additionalProperties": FEW, "maxProperties": 2}),
    {"allOf": [of(a=FEW, b=SHORT), {"properties": {"a": {"minimum": 7}}}]},
    {
        "type": "object",
        "properties": {"with space": FEW, 'quote"d': {"type": "boolean"}, "é": {"type": "null"}},
        "required": ["é"],
        "additionalProperties": False,
    },
    of(command={"type": "string", "minLength": 3, "maxLength": 12}, timeout=FEW),
)


class World:
    """One application for all that is asked in an event loop of its own."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._asked = 0

    async def events(
        self,
        use: ToolUse = NO_TOOLS,
        form: JsonAnswer | None = None,
        sampling: SamplingParams | None = None,
    ) -> list[GenerationEvent]:
        self._asked += 1
        request = GenerationRequest(
            RequestId(f"request {self._asked}"),
            self._application.model.model_id,
            Conversation((ChatMessage(Role.USER, f"Do number {self._asked}, please."),), use),
            sampling or SamplingParams(temperature=1.0, seed=self._asked, max_tokens=200),
            json=form,
        )
        async with aclosing(await self._application.generation.generate(request)) as events:
            return [event async for event in events]


@pytest.fixture(scope="module")
def application(
    tmp_path_factory: pytest.TempPathFactory, model_cache_dir: Path
) -> Iterator[Application]:
    store = tmp_path_factory.mktemp("constrained") / "store"
    built = build(settings_of(store, model_cache_dir, max_batch=24, max_waiting=64), "no token")
    yield built
    asyncio.run(built.close(10))


def told(events: list[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def calls(events: list[GenerationEvent]) -> list[tuple[str, str]]:
    """Names and arguments."""
    found: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, CallStarted):
            found.append((event.name, ""))
        elif isinstance(event, CallDelta):
            name, arguments = found[event.index]
            found[event.index] = (name, arguments + event.arguments)
    return found


def ended(events: list[GenerationEvent]) -> FinishReason:
    (last,) = [event for event in events if isinstance(event, Finished)]
    return last.reason


def test_required_calls_are_valid_by_their_schemas(application: Application) -> None:
    async def ask() -> list[list[GenerationEvent]]:
        world = World(application)
        uses = [
            ToolUse(
                (Tool("other"), Tool(f"t{number}", parameters=json.dumps(schema))),
                Calling.REQUIRED,
                only=frozenset({f"t{number}"}),
                parallel=False,
            )
            for number, schema in enumerate(SCHEMAS)
        ]
        return list(await asyncio.gather(*map(world.events, uses)))

    answers = asyncio.run(ask())
    assert len(answers) >= 20
    for number, (events, schema) in enumerate(zip(answers, SCHEMAS, strict=True)):
        assert ended(events) in (FinishReason.STOP, FinishReason.TOOL_CALLS)
        ((name, arguments),) = calls(events)
        assert name == f"t{number}"
        jsonschema.validate(json.loads(arguments), schema)


def test_an_answer_is_the_json_that_is_wanted(application: Application) -> None:
    async def ask() -> list[list[GenerationEvent]]:
        world = World(application)
        forms = [JsonAnswer(json.dumps(schema)) for schema in SCHEMAS[:6]]
        return list(await asyncio.gather(*(world.events(form=form) for form in forms)))

    for events, schema in zip(asyncio.run(ask()), SCHEMAS, strict=False):
        assert ended(events) is FinishReason.STOP
        jsonschema.validate(json.loads(told(events)), schema)


def test_what_cannot_be_held_is_refused_before_anything_is_computed(
    application: Application,
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        asyncio.run(World(application).events(form=JsonAnswer('{"not": {"type": "string"}}')))
    assert caught.value.field == "response_format"


def test_a_prompt_is_scored_whole_though_it_is_known(application: Application) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=2)

    async def ask() -> list[list[GenerationEvent]]:
        return [await World(application).events(sampling=sampling) for _ in range(2)]

    first, second = asyncio.run(ask())
    ((one,), (two,)) = (
        [event for event in events if isinstance(event, PromptScored)] for events in (first, second)
    )
    text = one.first + b"".join(token.chosen.data for token in one.tokens)
    assert re.search(rb"Do number 1, please\.", text)
    assert [token.chosen.data for token in one.tokens] == [
        token.chosen.data for token in two.tokens
    ]
    assert all(token.chosen.logprob <= 0 and len(token.top) == 2 for token in one.tokens)
