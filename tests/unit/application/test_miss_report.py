"""Why was it not remembered further? Every cause, told by a server over a small engine."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.fakes.scripted_executor import HYBRID, NAMESPACE, ScriptedExecutor
from tests.fakes.small_engine import SmallEngine
from tests.fakes.template_tokenizer import TemplateTokenizer
from tests.unit.application.test_generation import CODER, Answer, Server, letters

from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.chat import (
    ChatMessage,
    Conversation,
    GenerationRequest,
    RawPrompt,
    Role,
    Started,
)
from semantic.domain.ids import DEFAULT_TENANT, Namespace, RequestId, TenantId
from semantic.domain.reuse import MissCause, Reuse
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import Tool, ToolUse

OTHER_MODEL = Namespace("0" * 64)
RULES = "You are a helper. " * 20
QUESTION = "How many words are there in notes.txt? " * 10


class Reporting(Server):
    """A server with a template that knows tools; requests are numbered from 1."""

    TOKENIZER = TemplateTokenizer
    ELSEWHERE = (OTHER_MODEL,)
    count = 0

    def say(
        self,
        *messages: str,
        system: str = RULES,
        tools: tuple[str, ...] = ("look",),
        agent: AgentId | None = CODER,
        compared_to: int | None = None,
        tenant: TenantId = DEFAULT_TENANT,
    ) -> Answer:
        """One request; the user speaks first, and last."""
        self.count += 1
        roles = (Role.USER, Role.ASSISTANT)
        request = GenerationRequest(
            RequestId(str(self.count)),
            "tiny",
            Conversation(
                (
                    *((ChatMessage(Role.SYSTEM, system),) if system else ()),
                    *(ChatMessage(roles[n % 2], text) for n, text in enumerate(messages)),
                ),
                ToolUse(tuple(map(Tool, tools))),
            ),
            SamplingParams(temperature=0, max_tokens=8),
            agent=agent,
            tenant=tenant,
            compared_to=None if compared_to is None else RequestId(str(compared_to)),
        )
        return self.run(self.answered(request))


def told(answer: Answer) -> Reuse:
    started = answer.events[0]
    assert isinstance(started, Started)
    reuse = started.reuse
    assert reuse.hot_tokens + reuse.warm_tokens == started.cached_tokens
    return reuse


def why(answer: Answer) -> tuple[MissCause | None, int | None]:
    return told(answer).cause, told(answer).message


@pytest.fixture
def server() -> Iterator[Reporting]:
    made = Reporting(SmallEngine(ScriptedExecutor(choose=letters)))
    made.start()
    yield made
    made.stop()


@pytest.fixture(params=[CODER, None], ids=["named", "anonymous"])
def agent(request: pytest.FixtureRequest) -> AgentId | None:
    found: AgentId | None = request.param
    return found


def test_a_conversation_that_goes_on_is_continued(server: Reporting, agent: AgentId | None) -> None:
    first = server.say(QUESTION, agent=agent)
    assert told(first) == Reuse(difference=0, cause=MissCause.NEW)
    again = server.say(QUESTION, first.text, "And?", agent=agent)
    assert why(again) == (MissCause.CONTINUED, None)
    known = first.end.usage.prompt_tokens + first.end.usage.completion_tokens
    assert told(again).difference == known
    assert again.cached >= known - 1  # of the last token there may be no KV yet
    assert told(again).hot_tokens == again.cached


def test_the_same_question_again_is_continued(server: Reporting, agent: AgentId | None) -> None:
    server.say(QUESTION, agent=agent)
    assert why(server.say(QUESTION, agent=agent)) == (MissCause.CONTINUED, None)


def test_another_conversation_is_new_though_it_begins_alike(
    server: Reporting, agent: AgentId | None
) -> None:
    server.say(QUESTION, agent=agent)
    found = told(server.say("Something else?", agent=agent))
    assert found.cause is MissCause.NEW
    assert found.difference == found.hot_tokens > len(RULES)


def test_what_has_changed_is_named(server: Reporting, agent: AgentId | None) -> None:
    first = server.say(QUESTION, agent=agent)
    turn = (QUESTION, first.text, "And?")
    server.say(*turn, agent=agent)
    other = RULES.replace("helper", "coder", 1)
    assert why(server.say(*turn, system=other, agent=agent)) == (MissCause.SYSTEM_CHANGED, 0)
    assert why(server.say(*turn, agent=agent)) == (MissCause.CONTINUED, None)
    tools = ("look", "edit")
    assert why(server.say(*turn, tools=tools, agent=agent)) == (MissCause.TOOLS_CHANGED, None)
    server.say(*turn, agent=agent)
    found = server.say("what?", *turn[1:], agent=agent)
    assert why(found) == (MissCause.MESSAGES_CHANGED, 1)
    server.say(*turn, agent=agent)
    found = server.say(QUESTION, "An answer that was never given", "And?", agent=agent)
    assert why(found) == (MissCause.MESSAGES_CHANGED, 2)
    assert told(found).difference == told(found).hot_tokens > len(QUESTION)


def test_an_answer_that_comes_back_changed_is_named(server: Reporting) -> None:
    server.say(QUESTION)
    assert why(server.say(QUESTION, "another answer", "And?")) == (MissCause.MESSAGES_CHANGED, 2)


def test_an_agent_that_another_model_knows_is_not_new(server: Reporting) -> None:
    record = AgentRecord("coder", OTHER_MODEL, (Branch((Segment("a", (1,)),)),), 1.0)
    server.engine.agents.save(CODER.within(OTHER_MODEL), record)
    assert why(server.say(QUESTION)) == (MissCause.OTHER_MODEL, None)
    assert why(server.say(QUESTION)) == (MissCause.CONTINUED, None)


def test_a_request_can_be_compared_with_a_certain_one(server: Reporting) -> None:
    first = server.say(QUESTION)
    other = server.say("Something else?")
    assert why(server.say(QUESTION, first.text, "And?", compared_to=1))[0] is MissCause.CONTINUED
    server.say("Something else?", other.text, "So?", compared_to=2)
    found = server.say("Something else?", "no", "So?", compared_to=4)
    assert why(found) == (MissCause.MESSAGES_CHANGED, 2)
    assert why(server.say(QUESTION, compared_to=99))[0] is MissCause.CONTINUED


def test_nothing_is_told_of_other_tenants(server: Reporting) -> None:
    server.say(QUESTION, agent=None)
    found = server.say(QUESTION, agent=None, tenant=TenantId("acme"), compared_to=1)
    assert told(found) == Reuse(difference=0, cause=MissCause.NEW)


def test_only_the_last_requests_are_known(server: Reporting) -> None:
    server.say(QUESTION)
    for number in range(Reporting.RECENT_TURNS):
        server.say(f"{number}?" * 9)
    report = server.generation._misses
    assert list(report._asked[DEFAULT_TENANT]) == [str(n) for n in range(2, server.count + 1)]


def test_ids_are_compared_with_nothing(server: Reporting) -> None:
    request = GenerationRequest(
        RequestId("r"), "tiny", RawPrompt(tuple(range(1, 90))), SamplingParams(max_tokens=1)
    )
    assert told(server.run(server.answered(request))) == Reuse(0, 0, 0, MissCause.NEW)
    again = told(server.run(server.answered(request)))
    assert again == Reuse(88, 0, 88, MissCause.CONTINUED)


class TestAfterARestart:
    """No outline of a request is left, but an agent's record is, and what is on disk."""

    def restarted(self, server: Reporting) -> Reporting:
        again = server.restarted()
        assert isinstance(again, Reporting)
        return again

    @pytest.fixture
    def asked(self) -> Iterator[tuple[Reporting, str]]:
        server = Reporting(SmallEngine(ScriptedExecutor(choose=letters)))
        server.start()
        text = server.say(QUESTION).text
        again = self.restarted(server)
        yield again, text
        again.stop()

    def test_a_conversation_goes_on_from_the_disk(self, asked: tuple[Reporting, str]) -> None:
        server, text = asked
        found = told(server.say(QUESTION, text, "And?"))
        assert (found.cause, found.hot_tokens) == (MissCause.CONTINUED, 0)
        assert found.warm_tokens > len(QUESTION)

    def test_it_goes_on_from_there_though_another_was_asked_first(
        self, asked: tuple[Reporting, str]
    ) -> None:
        server, answer = asked
        server.say(QUESTION, system="Be cruel.")
        found = server.say(QUESTION, answer, "And now?")
        assert why(found) == (MissCause.CONTINUED, None)
        assert told(found).warm_tokens

    def test_sections_are_told_from_the_text_that_is_the_same(
        self, asked: tuple[Reporting, str]
    ) -> None:
        server, _ = asked
        other = RULES.replace("helper", "coder", 1)
        assert why(server.say(QUESTION, system=other)) == (MissCause.SYSTEM_CHANGED, 0)

    def test_a_message_that_has_changed_is_named(self, asked: tuple[Reporting, str]) -> None:
        server, _ = asked
        found = server.say(QUESTION, "another answer", "And?")
        assert why(found) == (MissCause.MESSAGES_CHANGED, 2)

    def test_whoever_names_nobody_hears_only_that_something_was_known(self) -> None:
        server = Reporting(SmallEngine(ScriptedExecutor(choose=letters)))
        server.start()
        server.say(QUESTION)
        server = self.restarted(server)
        found = told(server.say(QUESTION, agent=None))
        assert found.cause is MissCause.CONTINUED
        assert found.difference == found.warm_tokens
        server.stop()


class TestLost:
    """It was remembered, and is not to be had."""

    def test_what_was_given_up_was_evicted(self) -> None:
        server = Reporting(SmallEngine(ScriptedExecutor(choose=letters)))
        server.start()
        first = server.say(QUESTION)
        server.stop()
        blocks = server.engine.blocks
        blocks.delete(NAMESPACE, *(header.id for header in list(blocks.headers(NAMESPACE))))
        server = Reporting(server.engine.restarted())
        server.start()
        found = told(server.say(QUESTION, first.text, "And?"))
        assert (found.cause, found.hot_tokens) == (MissCause.EVICTED, 0)
        assert found.difference == sum(
            (first.end.usage.prompt_tokens, first.end.usage.completion_tokens)
        )
        server.stop()

    def test_damage_is_told_though_the_conversation_only_goes_on(self) -> None:
        server = Reporting(SmallEngine(ScriptedExecutor(choose=letters)))
        server.start()
        first = server.say(QUESTION)
        server.stop()
        blocks = server.engine.blocks
        for header in list(blocks.headers(NAMESPACE)):
            if header.start == 256:
                blocks.damage(NAMESPACE, header.id)
        server = Reporting(server.engine.restarted())
        server.start()
        found = told(server.say(QUESTION, first.text, "And?"))
        assert (found.cause, found.warm_tokens) == (MissCause.QUARANTINED, 256)
        server.stop()

    def test_a_model_that_resumes_from_some_positions_says_that(self) -> None:
        executor = ScriptedExecutor(HYBRID, letters)
        server = Reporting(replace(SmallEngine(), executor=executor, state_interval=1 << 20))
        server.start()
        first = server.say(QUESTION)
        assert why(server.say(QUESTION, first.text, "And?"))[0] is MissCause.CONTINUED
        found = server.say(QUESTION, first.text, "And what?")
        assert found.cached
        assert why(found)[0] is MissCause.ALIGNED
        server.stop()
