"""What comes back in other words is met with the ids that were generated; turns without answers."""

import json
from collections.abc import Iterator

import pytest
from tests.fakes.letter_tokenizer import LetterTokenizer
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.small_engine import SmallEngine
from tests.fakes.template_tokenizer import TemplateTokenizer
from tests.unit.application.test_generation import CODER, Answer, Server, letters, saying

from semantic.domain.agent import AgentId, Branch, Segment
from semantic.domain.chat import (
    CallStarted,
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationRequest,
    Progress,
    RawPrompt,
    Role,
    Started,
    TextDelta,
)
from semantic.domain.errors import ContextLengthError
from semantic.domain.ids import DEFAULT_TENANT, RequestId, TenantId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import Tool, ToolCall, ToolUse

QUESTION = ChatMessage(Role.USER, "How many words are there in notes.txt? " * 10)
MORE = ChatMessage(Role.USER, "And lines?")


class Talking(Server):
    TOKENIZER = TemplateTokenizer

    async def answered(self, request: GenerationRequest) -> Answer:
        return Answer([event async for event in await self.generation.generate(request)])


def request(
    prompt: Conversation | RawPrompt,
    agent: AgentId | None = CODER,
    max_tokens: int = 20,
    tenant: TenantId = DEFAULT_TENANT,
) -> GenerationRequest:
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    return GenerationRequest(RequestId("r"), "tiny", prompt, sampling, agent, tenant)


def serving(said: str) -> Iterator[Talking]:
    server = Talking(SmallEngine(ScriptedExecutor(choose=saying(said))))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server() -> Iterator[Talking]:
    """Its model says " fine " and no more, which its template trims; a client may do as well."""
    yield from serving(" ab fine ")


@pytest.fixture(params=[CODER, None], ids=["named", "anonymous"])
def agent(request: pytest.FixtureRequest) -> AgentId | None:
    found: AgentId | None = request.param
    return found


def ask(server: Talking, *messages: ChatMessage, agent: AgentId | None = CODER) -> Answer:
    return server.run(server.answered(request(Conversation(messages), agent)))


@pytest.mark.parametrize("said", [" ab fine ", "ab fine", " ab fine \n"])
def test_an_answer_that_comes_back_trimmed_is_known_by_its_ids(
    server: Talking, agent: AgentId | None, said: str
) -> None:
    first = ask(server, QUESTION, agent=agent)
    assert first.text == " ab fine "
    answer = ChatMessage(Role.ASSISTANT, said)
    again = ask(server, QUESTION, answer, MORE, agent=agent)
    known = first.end.usage.prompt_tokens + first.end.usage.completion_tokens
    assert again.cached >= known - 1
    # Longer than what the template's text tokenizes to: two blanks, and two letters for a token.
    shown = LetterTokenizer().encode(
        server.tokenizer.render(Conversation((QUESTION, answer, MORE)))
    )
    assert again.end.usage.prompt_tokens == len(shown) + 3


def test_of_an_answer_that_was_changed_nothing_is_taken(server: Talking) -> None:
    first = ask(server, QUESTION)
    again = ask(server, QUESTION, ChatMessage(Role.ASSISTANT, "ab fine!"), MORE)
    assert again.cached == first.end.usage.prompt_tokens


CALL = '<tool_call>\n{"name": "look", "arguments": {"b": 1, "a": "x"}}\n</tool_call>'
SCHEMA = '{"properties": {"a": {"type": "string"}, "b": {"type": "number"}}}'


@pytest.mark.parametrize("arguments", ['{"a":"x","b":1}', '{"b": 1.0, "a": "x"}'])
def test_a_call_that_comes_back_written_anew_is_known_by_its_ids(
    agent: AgentId | None, arguments: str
) -> None:
    for server in serving(CALL):
        use = ToolUse((Tool("look", parameters=SCHEMA),))
        asked = request(Conversation((QUESTION,), use), agent, 200)
        first = server.run(server.answered(asked))
        assert first.end.reason is FinishReason.TOOL_CALLS
        (started,) = (event for event in first.events if isinstance(event, CallStarted))
        call = ToolCall(started.id, "look", arguments)
        answer = ChatMessage(Role.ASSISTANT, "", calls=(call,))
        result = ChatMessage(Role.TOOL, "5 notes.txt", call_id=call.id)
        turned = ToolUse((Tool("look", parameters=json.dumps(json.loads(SCHEMA), indent=1)),))
        again = request(Conversation((QUESTION, answer, result), turned), agent)
        known = first.end.usage.prompt_tokens + first.end.usage.completion_tokens
        assert server.run(server.answered(again)).cached >= known - 1


def test_nobody_gets_the_ids_of_another_tenant(server: Talking) -> None:
    ask(server, QUESTION, agent=None)
    turns = Conversation((QUESTION, ChatMessage(Role.ASSISTANT, "ab fine"), MORE))
    shown = server.tokenizer.encode(server.tokenizer.render(turns))
    foreign = request(turns, None, tenant=TenantId("acme"))
    found = server.run(server.answered(foreign))
    assert (found.cached, found.end.usage.prompt_tokens) == (0, len(shown))


def test_the_alias_is_stored_with_the_agent(server: Talking) -> None:
    ask(server, QUESTION)
    (branch,) = server.branches()
    assert branch.segments[-1].text == " ab fine <|im_end|>"
    assert branch.segments[-1].alias == "ab fine<|im_end|>"


def test_only_so_many_conversations_of_the_nameless_are_remembered(server: Talking) -> None:
    for number in range(20):
        ask(server, ChatMessage(Role.USER, f"{number}?"), agent=None)
    recent = server.generation._turns._recent
    found = recent.branches(DEFAULT_TENANT)
    assert len(found) == Talking.RECENT_TURNS
    assert "19?" in found[-1].segments[0].text


class TestWarming:
    """No tokens are asked for."""

    def warm(self, server: Talking, agent: AgentId | None = CODER) -> Answer:
        return server.run(server.answered(request(Conversation((QUESTION,)), agent, 0)))

    def test_nothing_is_said_and_the_prompt_is_there(
        self, server: Talking, agent: AgentId | None
    ) -> None:
        warmed = self.warm(server, agent)
        told = [type(event) for event in warmed.events if not isinstance(event, Progress)]
        assert told == [Started, Finished]
        assert warmed.end.reason is FinishReason.LENGTH
        assert warmed.end.usage.completion_tokens == 0
        asked = ask(server, QUESTION, agent=agent)
        assert asked.text == " ab fine "
        assert asked.cached == asked.end.usage.prompt_tokens - 1

    def test_it_is_remembered_without_an_answer(self, server: Talking) -> None:
        self.warm(server)
        rendered = server.tokenizer.render(Conversation((QUESTION,)))
        assert server.branches() == (
            Branch((Segment(rendered, server.tokenizer.encode(rendered)),)),
        )

    def test_one_that_ends_at_once_is_no_different(self) -> None:
        for server in serving(""):
            warmed = self.warm(server)
            assert warmed.end.reason is FinishReason.LENGTH
            assert not any(isinstance(event, TextDelta) for event in warmed.events)

    def test_one_that_is_left_is_cancelled(self, server: Talking) -> None:
        async def leave() -> None:
            stream = await server.generation.generate(request(Conversation((QUESTION,)), None, 0))
            await stream.aclose()

        server.run(leave())
        assert server.names() == []


class TestRawPrompts:
    @pytest.fixture
    def plain(self) -> Iterator[Talking]:
        server = Talking(SmallEngine(ScriptedExecutor(choose=letters)), max_context=400)
        server.start()
        yield server
        server.stop()

    @pytest.mark.parametrize("as_ids", [True, False])
    def test_those_of_an_agent_are_remembered(self, plain: Talking, as_ids: bool) -> None:  # noqa: FBT001
        text = "once upon a time, there was a lab"
        ids = plain.tokenizer.encode(text)
        asked = RawPrompt(ids if as_ids else text)
        answer = plain.run(plain.answered(request(asked, max_tokens=5)))
        (branch,) = plain.branches()
        said = plain.tokenizer.encode(answer.text)
        assert (branch.segments[0].text, branch.ids) == (text, ids + said)

    def test_those_of_nobody_are_not(self, plain: Talking) -> None:
        plain.run(plain.answered(request(RawPrompt("once"), None)))
        assert plain.generation._turns._recent.branches(DEFAULT_TENANT) == ()

    @pytest.mark.parametrize("prompt", ["a" * 400, tuple(range(1, 90)) * 5])
    def test_one_that_is_too_long_is_called_a_prompt(
        self, plain: Talking, prompt: str | tuple[TokenId, ...]
    ) -> None:
        with pytest.raises(ContextLengthError, match="the prompt takes 4") as caught:
            plain.run(plain.answered(request(RawPrompt(prompt))))
        assert caught.value.field == "prompt"

    def test_of_messages_it_says_so(self, plain: Talking) -> None:
        with pytest.raises(ContextLengthError, match="the messages take") as caught:
            ask(plain, QUESTION)
        assert caught.value.field == "messages"
