import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from tests.contracts.test_inference_events import InferenceContract, check_order
from tests.fakes.letter_tokenizer import END, LETTERS, LetterTokenizer
from tests.fakes.observed_stores import PATIENCE_S, Gate
from tests.fakes.recorded_telemetry import RecordedTelemetry, Value
from tests.fakes.scripted_executor import NAMESPACE, SPECS, ScriptedExecutor, hashed_choice
from tests.fakes.small_engine import SmallEngine, right_answer

from semantic.application.agents import AgentLimits, Agents
from semantic.application.generation import (
    AnsweringModel,
    Generation,
    GenerationLimits,
    Surroundings,
)
from semantic.application.scheduler import SchedulerLimits
from semantic.application.system_prefix import SystemPrefix
from semantic.application.text_work import TextWork
from semantic.domain.agent import AgentId, AgentRecord, Branch
from semantic.domain.chat import (
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Progress,
    RawPrompt,
    Role,
    Started,
    TextDelta,
)
from semantic.domain.errors import (
    ContextLengthError,
    EngineError,
    InvalidRequestError,
    KVBudgetError,
    ModelNotFoundError,
    PoolExhaustedError,
)
from semantic.domain.ids import DEFAULT_TENANT, PUBLIC, Namespace, RequestId, TenantId, TokenId
from semantic.domain.reuse import MissCause, Reuse
from semantic.domain.sampling import SamplingParams
from semantic.domain.stable_prompt import ALL_RULES, Rule
from semantic.ports.answer_constraints import AnswerConstraints
from semantic.ports.inference import Inference, ModelInfo

Tokens = tuple[TokenId, ...]
Result = TypeVar("Result")

SEED = 4711

CODER = AgentId.parse("coder", field="agent")


def letters(tokens: Tokens) -> TokenId:
    """An answer of letters that depends on all tokens before it."""
    return hashed_choice(tokens) % LETTERS


def saying(text: str, *, after: str = "assistant\n") -> Callable[[Tokens], TokenId]:
    """An engine whose answer is always this text, a letter a token, and the end of a turn."""
    tokenizer = LetterTokenizer()
    ids = tuple(tokenizer.encode(letter)[0] for letter in text)
    before = tokenizer.encode(after)

    def choose(tokens: Tokens) -> TokenId:
        for length in range(len(ids) + 1):
            if tokens[-len(before) - length :] == before + ids[:length]:
                return (*ids, END)[length]
        return END

    return choose


@dataclass
class Answer:
    """All events of an answer."""

    events: list[GenerationEvent]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def end(self) -> Finished:
        end = self.events[-1]
        assert isinstance(end, Finished)
        return end

    @property
    def cached(self) -> int:
        return self.end.usage.cached_tokens


class Server:
    """A running engine and the use case on top of it."""

    RECENT_TURNS = 8
    ELSEWHERE: tuple[Namespace, ...] = ()
    TOKENIZER: type[LetterTokenizer] = LetterTokenizer
    RULES: frozenset[Rule] = ALL_RULES
    CONSTRAINTS: AnswerConstraints | None = None

    def __init__(
        self,
        engine: SmallEngine | None = None,
        *,
        max_context: int = 8192,
        commit_timeout_s: float = PATIENCE_S,
        awaits_commit: bool = True,
        max_kv_tokens: int | None = None,
    ) -> None:
        self.engine = engine or SmallEngine(ScriptedExecutor(choose=letters))
        self.tokenizer = self.TOKENIZER()
        self.call_ids = 0
        self.agents = Agents(
            self.engine.agents,
            self.engine.writes,
            NAMESPACE,
            AgentLimits(8, self.engine.silence_s, self.ELSEWHERE),
            self.engine.clock,
            self.engine.telemetry,
        )
        spec = self.engine.executor.capabilities.spec
        self.generation = Generation(
            AnsweringModel(
                ModelInfo("tiny", created=1, max_context=max_context),
                self.tokenizer,
                spec is None or spec.resume_rule.anywhere,
                self.engine.executor.capabilities.vocab_size,
                max_kv_tokens,
                rules=self.RULES,
                constraints=self.CONSTRAINTS,
            ),
            self.engine.loop,
            self.agents,
            GenerationLimits(5, commit_timeout_s, awaits_commit, self.RECENT_TURNS),
            Surroundings(self.engine.clock, self.engine.telemetry, lambda: SEED, self._call_id),
        )

    def _call_id(self) -> str:
        self.call_ids += 1
        return f"{self.call_ids:024}"

    def start(self) -> "Server":
        self.engine.loop.start(self.engine.parts)
        return self

    def stop(self) -> None:
        """Nothing may be left over."""
        self.engine.blocks.writing.open()
        self.engine.agents.writing.open()
        self.engine.close()
        assert self.engine.loop.unfinished == 0

    def restarted(self) -> "Server":
        self.stop()
        return type(self)(self.engine.restarted()).start()

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        """Run `work` to its end and remember all answers."""

        async def limited() -> Result:
            result = await asyncio.wait_for(work, PATIENCE_S)
            assert await self.generation.drain(PATIENCE_S)
            assert not self.agents._open
            return result

        return asyncio.run(limited())

    async def answered(self, request: GenerationRequest) -> Answer:
        events = [event async for event in await self.generation.generate(request)]
        check_order(events)
        return Answer(events)

    def ask(self, *messages: str, max_tokens: int | None = 8) -> Answer:
        """One turn of the agent's conversation."""
        return self.run(self.answered(request_of(*messages, max_tokens=max_tokens)))

    def branches(self) -> tuple[Branch, ...]:
        """What is stored of the agent."""
        record = self.engine.agents.load(CODER.within(NAMESPACE))
        return record.branches if record else ()

    def names(self) -> list[str]:
        return self.engine.names()


def request_of(
    *messages: str,
    max_tokens: int | None = 8,
    agent: AgentId | None = CODER,
    model: str = "tiny",
    stop: tuple[str, ...] = (),
    **sampling: Any,
) -> GenerationRequest:
    """A conversation; the user speaks first, and last."""
    roles = (Role.USER, Role.ASSISTANT)
    return GenerationRequest(
        request_id=RequestId("r"),
        model=model,
        prompt=Conversation(
            tuple(ChatMessage(roles[n % 2], text) for n, text in enumerate(messages))
        ),
        sampling=SamplingParams(
            **{"temperature": 0, "max_tokens": max_tokens, "stop": stop, **sampling}
        ),
        agent=agent,
    )


def conversation_of(request: GenerationRequest) -> Conversation:
    assert isinstance(request.prompt, Conversation)
    return request.prompt


def rendered(*messages: str) -> str:
    return LetterTokenizer().render(conversation_of(request_of(*messages)))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server().start()
    yield made
    made.stop()


class TestGenerationEvents(InferenceContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        self.server = Server().start()
        yield
        self.server.stop()

    def serving(self) -> tuple[Inference, str]:
        return self.server.generation, "tiny"

    def refusing(self) -> tuple[Inference, GenerationRequest]:
        return self.server.generation, request_of("hi", model="another")


class TestAnswer:
    def test_its_text_is_what_the_engine_said(self, server: Server) -> None:
        answer = server.ask("hello", max_tokens=20)
        prompt = LetterTokenizer().encode(rendered("hello"))
        said = right_answer(prompt, 20, letters)
        assert answer.text == LetterTokenizer().decode(said)
        new = Reuse(difference=0, cause=MissCause.NEW)
        assert answer.events[0] == Started(len(prompt), 0, new)
        assert answer.end.reason is FinishReason.LENGTH
        assert answer.end.usage.prompt_tokens == len(prompt)
        assert answer.end.usage.completion_tokens == 20

    def test_without_a_limit_it_has_the_default_length(self, server: Server) -> None:
        assert server.ask("hello", max_tokens=None).end.usage.completion_tokens == 5

    def test_the_end_of_a_turn_ends_it_and_is_not_shown(self) -> None:
        server = Server(SmallEngine(ScriptedExecutor(choose=saying("fine")))).start()
        answer = server.ask("hello")
        assert answer.text == "fine"
        assert answer.end.reason is FinishReason.STOP
        assert answer.end.usage.completion_tokens == 5
        server.stop()

    def test_a_stop_string_ends_it(self) -> None:
        server = Server(SmallEngine(ScriptedExecutor(choose=saying("one two three")))).start()
        request = request_of("hello", max_tokens=50, stop=(" two",))
        answer = server.run(server.answered(request))
        assert answer.text == "one"
        assert answer.end.reason is FinishReason.STOP
        assert server.branches()[0].segments[-1].text == "one"
        server.stop()

    def test_requests_are_answered_side_by_side(self, server: Server) -> None:
        async def ask() -> list[Answer]:
            requests = [request_of(f"question {n}" * 30, agent=None) for n in range(8)]
            return await asyncio.gather(*map(server.answered, requests))

        for number, answer in enumerate(server.run(ask())):
            prompt = LetterTokenizer().encode(rendered(f"question {number}" * 30))
            said = right_answer(prompt, 8, letters)
            assert answer.text == LetterTokenizer().decode(said)


class TestTelling:
    """What a client learns beside the answer."""

    def test_progress_grows_to_the_end_of_the_prompt(self) -> None:
        server = Server()

        def choose(tokens: Tokens) -> TokenId:
            server.engine.clock.now += 2
            return letters(tokens)

        server.engine.executor.choose = choose
        server.engine.limits = SchedulerLimits(4, 128, 128)
        answer = server.start().ask("hello " * 50)
        told = [event for event in answer.events if isinstance(event, Progress)]
        prompt = answer.end.usage.prompt_tokens
        assert told[0] == Progress(prompt, 128)
        server.stop()

    def test_progress_is_not_told_more_than_once_a_second(self, server: Server) -> None:
        server.engine.limits = SchedulerLimits(4, 10, 10)
        answer = server.ask("hello " * 50)
        assert sum(isinstance(event, Progress) for event in answer.events) == 1

    def test_the_end_says_where_the_time_went(self) -> None:
        engine = SmallEngine()

        def choose(tokens: Tokens) -> TokenId:
            engine.clock.now += 1
            return letters(tokens)

        engine.executor.choose = choose
        server = Server(engine).start()
        timings = server.ask("hello", max_tokens=8).end.timings
        # Whoever listens hears of a step while the next one runs: the borders are not exact.
        assert 7 <= timings.queued_s + timings.prefill_s + timings.decode_s <= 9
        assert timings.ttft_s == timings.queued_s + timings.prefill_s > 0
        server.stop()

    def test_keeping_the_memory_is_no_part_of_it(self, server: Server) -> None:
        server.engine.agents.writing.shut()

        async def use() -> Finished:
            asking = asyncio.create_task(server.answered(request_of("hello")))
            await asyncio.to_thread(server.engine.agents.writing.wait_reached)
            server.engine.clock.now += 100
            server.engine.agents.writing.open()
            return (await asking).end

        timings = server.run(use()).timings
        assert timings.ttft_s + timings.decode_s == 0


class TestMemory:
    def test_the_next_turn_uses_the_ids_that_were_generated(self) -> None:
        """Written as text, `ab` would be one token; it was generated as two."""
        server = Server(SmallEngine(ScriptedExecutor(choose=saying("ab ab")))).start()
        first = server.ask("hello")
        assert first.text == "ab ab"
        second = server.ask("hello", "ab ab", "more")
        prompt, answer = first.end.usage.prompt_tokens, first.end.usage.completion_tokens
        assert second.cached == prompt + answer
        assert server.tokenizer.encoded == [
            rendered("hello"),
            "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n",
        ]
        (branch,) = server.branches()
        assert len(branch.segments) == 4
        server.stop()

    def test_an_answer_that_was_cut_is_continued_from(self, server: Server) -> None:
        first = server.ask("hello", max_tokens=6)
        second = server.ask("hello", first.text, "more")
        assert second.cached == first.end.usage.prompt_tokens + 6
        assert len(server.branches()) == 1

    def test_after_a_restart_nothing_is_computed_again(self, server: Server) -> None:
        first = server.ask("hello " * 100)
        again = server.restarted()
        second = again.ask("hello " * 100, first.text, "more")
        assert second.cached == first.end.usage.prompt_tokens + 8
        prompt = LetterTokenizer().encode(rendered("hello " * 100, first.text, "more"))
        assert second.text == LetterTokenizer().decode(right_answer(prompt, 8, letters))
        again.stop()

    def test_a_changed_history_starts_a_branch(self, server: Server) -> None:
        server.ask("hello")
        answer = server.ask("hello", "this was not said", "more")
        assert answer.cached >= len(LetterTokenizer().encode(rendered("hello"))) - 1
        assert len(server.branches()) == 2

    def test_the_same_question_again_adds_no_branch(self, server: Server) -> None:
        answers = [server.ask("hello") for _ in range(4)]
        assert len({answer.text for answer in answers}) == 1
        (branch,) = server.branches()
        assert [bool(segment.text) for segment in branch.segments] == [True, True]

    def test_anonymous_requests_share_beginnings_and_leave_no_record(self, server: Server) -> None:
        request = request_of("hello", agent=None)
        first = server.run(server.answered(request))
        second = server.run(server.answered(request))
        assert second.cached == first.end.usage.prompt_tokens - 1
        assert server.engine.agents._records == {}

    def test_two_requests_of_one_agent_at_once_keep_both_branches(self, server: Server) -> None:
        async def both() -> None:
            await asyncio.gather(
                server.answered(request_of("one")), server.answered(request_of("two"))
            )

        server.run(both())
        texts = {branch.segments[0].text for branch in server.branches()}
        assert texts == {rendered("one"), rendered("two")}

    def test_the_end_comes_once_the_turn_is_safe(self, server: Server) -> None:
        server.engine.agents.writing.shut()

        async def use() -> None:
            events = await server.generation.generate(request_of("hello", max_tokens=1))
            ending = asyncio.create_task(collected(events))
            await asyncio.to_thread(server.engine.agents.writing.wait_reached)
            assert not ending.done()
            server.engine.agents.writing.open()
            assert isinstance((await ending)[-1], Finished)
            assert len(server.branches()) == 1

        server.run(use())

    @pytest.mark.parametrize("held_up", ["blocks", "agents"])
    def test_a_relaxed_end_waits_for_no_disk_and_the_next_turn_knows_it(self, held_up: str) -> None:
        server = Server(awaits_commit=False).start()
        gate = getattr(server.engine, held_up).writing
        gate.shut()

        async def use() -> None:
            await server.answered(request_of("hello"))
            assert server.branches() == ()
            again = await server.answered(request_of("hello"))
            assert again.cached > 0
            assert not await server.generation.drain(0.01)
            gate.open()
            assert await server.generation.drain(PATIENCE_S)
            assert len(server.branches()) == 1

        server.run(use())
        server.stop()

    def test_a_relaxed_commit_that_hangs_is_reported(self) -> None:
        server = Server(commit_timeout_s=0.01, awaits_commit=False).start()
        server.engine.agents.writing.shut()

        async def use() -> None:
            await server.answered(request_of("hello"))
            assert await server.generation.drain(PATIENCE_S)
            assert server.names() == ["commit_timed_out"]
            server.engine.agents.writing.open()
            await asyncio.to_thread(server.engine.writes.close, PATIENCE_S)
            await asyncio.sleep(0)

        server.run(use())
        assert len(server.branches()) == 1
        server.stop()


class TestMemoryThatFails:
    def test_a_commit_that_hangs_costs_no_answer(self) -> None:
        server = Server(commit_timeout_s=0.01).start()
        server.engine.agents.writing.shut()

        async def use() -> None:
            await server.answered(request_of("hello"))
            assert server.names() == ["commit_timed_out"]
            # The next turn continues it nevertheless.
            again = await server.answered(request_of("hello"))
            assert again.cached > 0
            server.engine.agents.writing.open()
            await asyncio.to_thread(server.engine.writes.close, PATIENCE_S)
            await asyncio.sleep(0)

        server.run(use())
        assert len(server.branches()) == 1
        server.stop()

    def test_a_record_that_cannot_be_written_costs_no_answer(self, server: Server) -> None:
        server.engine.agents.failing = True
        server.ask("hello")
        assert server.names() == ["agent_not_saved"]

    def test_ids_that_cannot_be_made_text_cost_no_answer(self, server: Server) -> None:
        server.tokenizer.failing = True
        server.ask("hello")
        assert server.names() == ["turn_not_remembered"]
        assert server.branches() == ()

    def test_a_bug_while_an_answer_ends_is_told_to_the_client(self, server: Server) -> None:
        class Broken(RecordedTelemetry):
            def error(self, event: str, **fields: Value) -> None:
                super().error(event, **fields)
                if event == "turn_not_remembered":
                    raise RuntimeError("no space left for logs")

        server.tokenizer.failing = True
        server.generation._turns._telemetry = Broken()
        with pytest.raises(EngineError, match="no space left"):
            server.ask("hello")


class TestRefusal:
    def refused(self, server: Server, request: GenerationRequest) -> None:
        server.run(server.answered(request))

    def test_of_an_unknown_model(self, server: Server) -> None:
        with pytest.raises(ModelNotFoundError, match="tiny"):
            self.refused(server, request_of("hi", model="huge"))

    def test_of_messages_that_fill_the_context(self) -> None:
        server = Server(max_context=40).start()
        with pytest.raises(ContextLengthError) as caught:
            server.ask("x" * 100)
        assert caught.value.field == "messages"
        assert not server.agents._open
        server.stop()

    def test_of_an_answer_that_does_not_fit_the_context(self) -> None:
        server = Server(max_context=100).start()
        prompt = len(LetterTokenizer().encode(rendered("hello")))
        with pytest.raises(ContextLengthError) as caught:
            server.ask("hello", max_tokens=101 - prompt)
        assert caught.value.field == "max_tokens"
        assert server.ask("hello", max_tokens=100 - prompt).end.reason is FinishReason.LENGTH
        server.stop()

    def test_the_default_length_gives_way_to_the_context(self) -> None:
        prompt = len(LetterTokenizer().encode(rendered("hello")))
        server = Server(max_context=prompt + 2).start()
        assert server.ask("hello", max_tokens=None).end.usage.completion_tokens == 2
        server.stop()

    def test_an_answer_that_may_be_shorter_gives_way_to_the_context(self) -> None:
        prompt = len(LetterTokenizer().encode(rendered("hello")))
        server = Server(max_context=prompt + 2).start()
        request = replace(request_of("hello", max_tokens=1000), as_fits=True)
        end = server.run(server.answered(request)).end
        assert (end.reason, end.usage.completion_tokens) == (FinishReason.LENGTH, 2)
        server.stop()

    def test_of_what_the_kv_budget_can_never_hold(self) -> None:
        prompt = len(LetterTokenizer().encode(rendered("hello")))
        server = Server(max_kv_tokens=prompt + 3).start()
        with pytest.raises(KVBudgetError) as caught:
            server.ask("hello", max_tokens=4)
        assert caught.value.field == "max_tokens"
        with pytest.raises(KVBudgetError) as caught:
            server.ask("hello, hello")
        assert caught.value.field == "messages"
        assert not server.agents._open
        assert server.engine.executor.plans == []
        assert server.ask("hello", max_tokens=3).end.usage.completion_tokens == 3
        assert server.ask("hello", max_tokens=None).end.usage.completion_tokens == 3
        server.stop()

    def test_of_what_the_template_refuses(self, server: Server) -> None:
        request = GenerationRequest(
            RequestId("r"),
            "tiny",
            Conversation((ChatMessage(Role.TOOL, "42"),)),
            SamplingParams(),
            CODER,
        )
        with pytest.raises(InvalidRequestError, match="no tools"):
            server.run(server.generation.generate(request))

    def test_of_text_that_makes_the_tokenizer_fail_closes_the_agent(self, server: Server) -> None:
        with pytest.raises(KeyError):
            server.ask("世界")
        assert not server.agents._open
        server.ask("world")

    def test_of_nothing_at_all(self, server: Server) -> None:
        server.tokenizer.render = lambda *_, **__: ""  # type: ignore[method-assign]
        with pytest.raises(InvalidRequestError, match="no text"):
            server.ask("hello")

    def test_while_the_engine_does_not_run(self) -> None:
        server = Server()
        assert not server.generation.ready()
        with pytest.raises(EngineError):
            server.ask("hello")
        assert not server.agents._open
        server.start()
        assert server.generation.ready()
        server.stop()
        assert not server.generation.ready()
        assert server.generation.failure() is None

    def test_of_more_than_may_wait(self) -> None:
        server = Server(SmallEngine(ScriptedExecutor(choose=letters), max_jobs=0)).start()
        with pytest.raises(PoolExhaustedError):
            server.ask("hello")
        assert not server.agents._open
        server.stop()


async def collected(events: AsyncGenerator[GenerationEvent, None]) -> list[GenerationEvent]:
    return [event async for event in events]


class TestLeaving:
    """Clients that do not wait for the end."""

    def held_up(self, gate: Gate) -> Server:
        def choose(tokens: Tokens) -> TokenId:
            gate.enter()
            return letters(tokens)

        gate.shut()
        return Server(SmallEngine(ScriptedExecutor(choose=choose))).start()

    def test_closing_before_the_first_event_cancels(self) -> None:
        gate = Gate()
        server = self.held_up(gate)

        async def leave() -> None:
            events = await server.generation.generate(request_of("hello", max_tokens=5000))
            await asyncio.to_thread(gate.wait_reached)
            await events.aclose()
            gate.open()

        server.run(leave())
        assert len(server.engine.executor.plans) < 5
        assert server.branches()[0].segments[0].text == rendered("hello")
        server.stop()

    def test_what_was_said_by_then_is_remembered(self, server: Server) -> None:
        async def leave() -> str:
            events = await server.generation.generate(request_of("hello", max_tokens=5000))
            text = ""
            while len(text) < 3:
                event = await anext(events)
                text += event.text if isinstance(event, TextDelta) else ""
            await events.aclose()
            return text

        text = server.run(leave())
        asked, answered = server.branches()[0].segments
        assert asked.text == rendered("hello")
        assert answered.text.startswith(text)
        assert 3 <= len(answered.ids) < 5000
        following = server.ask("hello", answered.text, "more")
        assert following.cached == len(asked.ids) + len(answered.ids)

    def test_leaving_while_the_agent_is_opened_leaves_nothing_open(self, server: Server) -> None:
        server.engine.agents.reading.shut()

        async def leave() -> None:
            opening = asyncio.create_task(server.generation.generate(request_of("hello")))
            await asyncio.to_thread(server.engine.agents.reading.wait_reached)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            (opened,) = server.agents._open.values()  # until its record has been read
            server.engine.agents.reading.open()
            await opened.closed.wait()

        server.run(leave())

    def test_a_step_that_fails_is_told(self) -> None:
        # Once more is tried, since it may have been a mere chance.
        executor = ScriptedExecutor(choose=letters, fail_on_run=3, failures=2)
        server = Server(SmallEngine(executor)).start()
        with pytest.raises(EngineError):
            server.ask("hello")
        assert not server.agents._open
        assert server.ask("hello").text
        server.stop()

    def test_a_stopping_server_ends_answers_and_remembers_them(self) -> None:
        gate = Gate()
        server = self.held_up(gate)

        async def use() -> Answer:
            asking = asyncio.create_task(server.answered(request_of("hello", max_tokens=5000)))
            await asyncio.to_thread(gate.wait_reached)
            assert not server.engine.loop.stop(0)
            gate.open()
            return await asking

        answer = server.run(use())
        assert answer.end.reason is FinishReason.CANCELLED
        assert len(server.branches()) == 1
        server.stop()

    def test_a_tokenizer_that_hangs_holds_up_nobody_else(self, server: Server) -> None:
        gate = Gate()
        gate.shut()
        encode = server.tokenizer.encode

        def held_up(text: str) -> Tokens:
            if "slow" in text:
                gate.enter()
            return encode(text)

        server.tokenizer.encode = held_up  # type: ignore[method-assign]

        async def use() -> None:
            slow = asyncio.create_task(server.answered(request_of("slow", agent=None)))
            await asyncio.to_thread(gate.wait_reached)
            assert (await server.answered(request_of("quick"))).text
            assert not slow.done()
            gate.open()
            assert (await slow).text

        server.run(use())

    def test_a_tokenizer_that_never_answers_is_told(self, server: Server) -> None:
        gate = Gate()
        gate.shut()
        server.generation._prompts._text = TextWork(timeout_s=0.05)

        encode = server.tokenizer.encode

        def held_up(text: str) -> Tokens:
            gate.enter()
            return encode(text)

        server.tokenizer.encode = held_up  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="tokenizer"):
            server.ask("hello")
        assert not server.agents._open
        gate.open()

    def test_a_loop_that_is_gone_hurts_nobody(self) -> None:
        gate = Gate()
        server = self.held_up(gate)

        async def abandon() -> None:
            await server.generation.generate(request_of("hello", max_tokens=3))
            await asyncio.to_thread(gate.wait_reached)

        asyncio.run(abandon())
        assert not server.agents._open
        gate.open()
        assert server.ask("hello").text
        assert server.names() == []
        server.stop()


class TestEngineThatHangs:
    def hanging(self, gate: Gate) -> Server:
        def choose(tokens: Tokens) -> TokenId:
            gate.enter()
            return letters(tokens)

        executor = ScriptedExecutor(choose=choose)
        limits = SchedulerLimits(1, 512, 256)
        return Server(SmallEngine(executor, step_timeout_s=5, limits=limits)).start()

    def come_back(self, server: Server) -> None:
        """Return once it has ended all that it had."""
        ended, deadline = threading.Event(), time.monotonic() + PATIENCE_S
        while server.engine.loop.unfinished and time.monotonic() < deadline:
            ended.wait(0.005)

    def test_every_request_is_told_and_it_may_come_back(self) -> None:
        gate = Gate()
        server = self.hanging(gate)
        gate.shut()

        async def told(request: GenerationRequest) -> None:
            with pytest.raises(EngineError, match="more than 5 s"):
                await server.answered(request)

        async def use() -> None:
            running = asyncio.create_task(told(request_of("one", max_tokens=1000)))
            await asyncio.to_thread(gate.wait_reached)
            waiting = asyncio.create_task(told(request_of("two", agent=None)))
            await asyncio.sleep(0.05)
            server.engine.clock.now += 6
            assert not server.generation.ready()
            assert server.generation.failure() is not None
            await told(request_of("three"))
            await asyncio.gather(running, waiting)
            assert not server.agents._open
            gate.open()
            await asyncio.to_thread(self.come_back, server)
            assert server.generation.failure() is None
            assert (await server.answered(request_of("four"))).text

        server.run(use())
        # What was given up was cancelled: nobody generated a thousand tokens for nobody.
        assert len(server.engine.executor.plans) < 50
        server.stop()

    def test_one_that_died_without_a_word_is_noticed(self) -> None:
        def unable(*_: object) -> TokenId:
            raise SystemExit("a bug")

        server = Server(SmallEngine(ScriptedExecutor(choose=unable)))
        server.engine.loop._shut = unable  # type: ignore[method-assign, assignment]
        server.start()
        with pytest.raises(EngineError, match="has died"):
            server.ask("hello")
        assert server.generation.failure() == "the engine has died"
        assert not server.agents._open
        assert server.engine.writes.close(PATIENCE_S)


def test_the_record_that_is_stored_names_the_agent_and_the_model(server: Server) -> None:
    server.ask("hello")
    record = server.engine.agents.load(CODER.within(NAMESPACE))
    assert isinstance(record, AgentRecord)
    assert (record.name, record.namespace) == ("coder", NAMESPACE)
    assert record.updated_at == server.engine.clock.now


@pytest.mark.parametrize("restarting", [False, True])
@pytest.mark.parametrize("model", ["short window", "long window", "hybrid", "recurrent"])
def test_other_conversations_go_on_from_the_end_of_the_same_system_prompt(
    model: str, *, restarting: bool
) -> None:
    system = ChatMessage(Role.SYSTEM, "You are terse. " * 30)

    def asking(question: str, name: str) -> GenerationRequest:
        request = request_of(question, agent=AgentId.parse(name, field="agent"))
        messages = conversation_of(request).messages
        return replace(request, prompt=Conversation((system, *messages)))

    server = Server(SmallEngine(ScriptedExecutor(SPECS[model], choose=letters))).start()
    server.run(server.answered(asking("first?", "one")))
    if restarting:
        server = server.restarted()
    request = asking("another?", "two")
    answer = server.run(server.answered(request))
    prompt = LetterTokenizer().encode(LetterTokenizer().render(conversation_of(request)))
    assert (
        answer.cached == SystemPrefix(LetterTokenizer()).end(conversation_of(request), prompt) > 400
    )
    assert answer.text == LetterTokenizer().decode(right_answer(prompt, 8, letters))
    server.stop()


def test_tenants_of_one_server_know_nothing_of_each_other(server: Server) -> None:
    text = "it was a dark and stormy night, " * 20
    acme = replace(request_of(text), tenant=TenantId("acme"))
    assert server.run(server.answered(request_of(text))).cached == 0
    assert server.run(server.answered(acme)).cached == 0
    assert server.run(server.answered(acme)).cached > 0
    key = CODER.within(NAMESPACE, TenantId("acme"))
    record = server.engine.agents.load(key)
    assert record is not None
    assert (record.tenant, len(record.branches)) == ("acme", len(server.branches()))
    tenants = {one.tenant for one in server.engine.blocks.headers(NAMESPACE)}
    assert tenants == {"acme", "default"}


def test_what_was_published_is_for_every_tenant(server: Server) -> None:
    text = "it was a dark and stormy night, " * 20
    published = replace(request_of(text), tenant=PUBLIC)
    assert server.run(server.answered(published)).cached == 0
    whole = len(LetterTokenizer().encode(rendered(text))) - 1
    for tenant in (DEFAULT_TENANT, TenantId("acme"), PUBLIC):
        assert server.run(server.answered(replace(request_of(text), tenant=tenant))).cached == whole


class TestSampling:
    def test_who_names_no_seed_gets_one(self, server: Server) -> None:
        def ask(seed: int | None) -> str:
            request = request_of("hello", max_tokens=24, agent=None, temperature=2.0, seed=seed)
            return server.run(server.answered(request)).text

        assert ask(None) == ask(SEED)
        assert len({ask(seed) for seed in range(4)}) > 1

    def test_a_bias_must_be_of_the_models_tokens(self, server: Server) -> None:
        vocabulary = server.engine.executor.capabilities.vocab_size
        request = request_of("hello", logit_bias=((vocabulary, 1.0),))
        with pytest.raises(InvalidRequestError) as caught:
            server.run(server.generation.generate(request))
        assert caught.value.field == "logit_bias"
        assert server.run(server.answered(request_of("hello", logit_bias=((0, 1.0),)))).text

    def test_logprobs_come_once_for_each_token_that_is_shown(self) -> None:
        server = Server(SmallEngine(ScriptedExecutor(choose=saying("one ab two")))).start()
        try:
            request = request_of("hello", max_tokens=50, stop=(" two",), logprobs=2)
            answer = server.run(server.answered(request))
        finally:
            server.stop()
        deltas = [event for event in answer.events if isinstance(event, TextDelta)]
        tokens = [token for delta in deltas for token in delta.tokens]
        assert answer.text == "one ab"
        assert b"".join(token.chosen.data for token in tokens).decode() == answer.text
        for token in tokens:
            assert len(token.top) == 2
            assert token.top[0] == token.chosen

    def test_nobody_is_told_logprobs_unasked(self, server: Server) -> None:
        answer = server.ask("hello")
        assert all(not event.tokens for event in answer.events if isinstance(event, TextDelta))

    def test_an_answer_goes_on_beyond_its_end_if_it_is_to(self) -> None:
        server = Server(SmallEngine(ScriptedExecutor(choose=saying("ab")))).start()
        try:
            end = server.run(server.answered(request_of("hello", ignore_eos=True))).end
            usual = server.run(server.answered(request_of("hello"))).end
        finally:
            server.stop()
        assert (end.reason, end.usage.completion_tokens) == (FinishReason.LENGTH, 8)
        assert usual.reason is FinishReason.STOP

    def test_a_prompt_of_ids_must_be_of_the_models_tokens(self, server: Server) -> None:
        vocabulary = server.engine.executor.capabilities.vocab_size
        request = replace(request_of("hello"), prompt=RawPrompt((0, vocabulary)))
        with pytest.raises(InvalidRequestError) as caught:
            server.run(server.generation.generate(request))
        assert caught.value.field == "prompt"
