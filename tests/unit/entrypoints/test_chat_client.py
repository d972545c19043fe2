import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from semantic.domain.errors import InvalidRequestError, SemanticError
from semantic.entrypoints.chat_client import ChatClient
from semantic.entrypoints.running_server import ServerError

USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def says(*pieces: str) -> list[object]:
    """The chunks of a complete answer."""
    texts = [{"choices": [{"delta": {"content": piece}}], "usage": None} for piece in pieces]
    first = {"choices": [{"delta": {"role": "assistant", "content": ""}}], "usage": None}
    return [first, *texts, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, USAGE, "[DONE]"]


class Body(httpx.SyncByteStream):
    """Server-sent events; an exception among them is raised there."""

    def __init__(self, chunks: Sequence[object]) -> None:
        self._chunks = chunks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b": ping\n\n"
        for chunk in self._chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            text = chunk if isinstance(chunk, str) else json.dumps(chunk)
            yield f"data: {text}\n\n".encode()

    def close(self) -> None:
        self.closed = True


@dataclass
class Talk:
    """A chat with a server that answers by a script; what it was asked, and what was shown."""

    answers: list[Sequence[object] | httpx.Response | Exception]
    agent: str | None = None
    system: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        http = httpx.Client(transport=httpx.MockTransport(self._answer), base_url="http://test")
        options: dict[str, str | float] = {"model": "tiny", "temperature": 0}
        self.client = ChatClient(http, options, agent=self.agent, system=self.system)
        self.ask: Callable[[str], Any] = lambda text: self.client.ask(text, self.shown.append)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        self.headers.append(request.headers)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        self.bodies.append(Body(answer))
        return httpx.Response(200, stream=self.bodies[-1])


def test_an_answer_is_shown_piece_by_piece_and_counted() -> None:
    talk = Talk([says("Hel", "lo")])
    answer = talk.ask("hi")
    assert (talk.shown, answer.text) == (["Hel", "lo"], "Hello")
    assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (10, 4, 2)
    assert 0 < answer.first_token_s <= answer.total_s
    assert not answer.interrupted


def test_reasoning_is_told_apart_and_no_part_of_the_conversation() -> None:
    first, *rest = says("Hello")
    thoughts = [{"choices": [{"delta": {"reasoning_content": piece}}]} for piece in ("Hm", "m.")]
    talk, told = Talk([[first, *thoughts, *rest], says("x")]), list[str]()
    answer = talk.client.ask("hi", talk.shown.append, told.append)
    talk.ask("more")
    assert (told, talk.shown, answer.text) == (["Hm", "m."], ["Hello", "x"], "Hello")
    assert [turn["content"] for turn in talk.asked[1]["messages"]] == ["hi", "Hello", "more"]


def test_the_conversation_grows_by_what_was_asked_and_answered() -> None:
    talk = Talk([says("one"), says("two")], system="be brief")
    talk.ask("a")
    talk.ask("b")
    assert [(turn["role"], turn["content"]) for turn in talk.asked[1]["messages"]] == [
        ("system", "be brief"),
        ("user", "a"),
        ("assistant", "one"),
        ("user", "b"),
    ]
    assert (talk.asked[1]["model"], talk.asked[1]["temperature"]) == ("tiny", 0)


@pytest.mark.parametrize("agent", ["alice", "zoë 🦜"])
def test_the_agent_is_named_in_utf8(agent: str) -> None:
    talk = Talk([says("x")], agent=agent)
    talk.ask("hi")
    raw = dict(talk.headers[0].raw)
    assert raw[b"X-Agent-ID"].decode() == agent


def test_without_an_agent_nobody_is_named() -> None:
    talk = Talk([says("x")])
    talk.ask("hi")
    assert "X-Agent-ID" not in talk.headers[0]


@pytest.mark.parametrize("agent", ["", "a\nb", "x" * 300])
def test_a_name_that_cannot_be_one_is_refused_and_not_taken_for_nobody(agent: str) -> None:
    with pytest.raises(InvalidRequestError, match="an agent's name"):
        Talk([], agent=agent)


BYTES = b"x\xff".decode(errors="surrogateescape")
"""What Python makes of bytes on the command line or stdin that are no text."""


def test_what_is_no_text_is_refused_and_leaves_no_trace() -> None:
    talk = Talk([says("ok")])
    with pytest.raises(InvalidRequestError, match="the question is not UTF-8 from its character 2"):
        talk.ask(BYTES)
    talk.ask("again")
    assert [turn["content"] for turn in talk.asked[0]["messages"]] == ["again"]
    with pytest.raises(InvalidRequestError, match="the agent is not UTF-8"):
        Talk([], agent=BYTES)
    with pytest.raises(InvalidRequestError, match="the system is not UTF-8"):
        Talk([], system=BYTES)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_shown() -> None:
    chunks = [*says("Hel", "lo")[:2], KeyboardInterrupt()]
    talk = Talk([chunks, says("ok")])
    answer = talk.ask("hi")
    assert (answer.text, answer.interrupted) == ("Hel", True)
    assert talk.bodies[0].closed
    talk.ask("more")
    assert [turn["content"] for turn in talk.asked[1]["messages"]] == ["hi", "Hel", "more"]


def test_ctrl_c_before_the_first_word_leaves_no_trace() -> None:
    talk = Talk([[KeyboardInterrupt()], says("ok")])
    assert talk.ask("hi").interrupted
    talk.ask("again")
    assert [turn["content"] for turn in talk.asked[1]["messages"]] == ["again"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (httpx.ConnectError("refused"), ServerError, "semantic serve"),
        (httpx.ReadError("reset"), ServerError, "the connection broke: reset"),
        (
            httpx.Response(400, json={"error": {"message": "too long", "code": "c"}}),
            InvalidRequestError,
            "too long",
        ),
        (httpx.Response(429, json={"error": {"message": "later"}}), ServerError, "later"),
        (httpx.Response(502, text="<html>"), ServerError, "502"),
        ([{"error": {"message": "engine died"}}], ServerError, "engine died"),
        (says("Hel")[:2], ServerError, "no end"),
    ],
    ids=repr,
)
def test_a_failure_is_told_and_the_question_forgotten(
    answer: Sequence[object] | httpx.Response | Exception,
    error: type[SemanticError],
    words: str,
) -> None:
    talk = Talk([answer, says("ok")])
    with pytest.raises(error, match=words):
        talk.ask("hi")
    talk.ask("again")
    assert [turn["content"] for turn in talk.asked[1]["messages"]] == ["again"]
