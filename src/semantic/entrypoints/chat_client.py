"""A conversation with a running server. Knows HTTP and no terminal.

Invariant: the history holds what was said and answered, in turn; a question that got no answer
at all leaves no trace in it.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError
from semantic.entrypoints.running_server import ServerError, content_of, unreachable

_DATA = "data: "
_DONE = "[DONE]"


@dataclass(slots=True)
class Answer:
    """One answer: its text and what it took. Counts are None where the server told none."""

    text: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_s: float | None = None
    total_s: float = 0.0
    interrupted: bool = False


class ChatClient:
    """Owns the conversation's history.

    `http` leads to the server's root and is not closed here. `options` stand in every request:
    the model, and whatever else the API knows (temperature, max_tokens).

    Raises:
        InvalidRequestError: if the agent's name cannot be one, or a message is no text.
    """

    def __init__(
        self,
        http: httpx.Client,
        options: dict[str, str | float],
        *,
        agent: str | None,
        system: str | None,
    ) -> None:
        self._http = http
        self._options = options
        self._headers = {} if agent is None else {b"X-Agent-ID": _name(agent)}
        self._history: list[dict[str, str]] = []
        if system:
            _utf8("system", system)
            self._history.append({"role": "system", "content": system})

    def ask(
        self, text: str, show: Callable[[str], None], think: Callable[[str], None] | None = None
    ) -> Answer:
        """Ask, and `show` the answer piece by piece. Ctrl-C stops the answer, and no more.

        What the model reasons before it goes to `think`, and is no part of the conversation.

        Raises:
            SemanticError: if the server refused or failed; the question is not remembered.
        """
        _utf8("question", text)
        question = {"role": "user", "content": text}
        body: dict[str, object] = {
            **self._options,
            "messages": [*self._history, question],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        answer, start = Answer(), time.perf_counter()
        try:
            for chunk in self._chunks(body):
                piece, thought = _take(chunk, answer)
                if piece or thought:
                    answer.first_token_s = answer.first_token_s or time.perf_counter() - start
                if thought and think:
                    think(thought)
                if piece:
                    answer.text += piece
                    show(piece)
        except KeyboardInterrupt:
            answer.interrupted = True
        answer.total_s = time.perf_counter() - start
        if answer.text:
            self._history += [question, {"role": "assistant", "content": answer.text}]
        return answer

    def _chunks(self, body: dict[str, object]) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer.

        Raises:
            ServerError: if the stream ends before the answer does.
        """
        try:
            with self._http.stream(
                "POST", "/v1/chat/completions", json=body, headers=self._headers
            ) as response:
                if not response.is_success:
                    response.read()
                    content_of(response)
                for line in response.iter_lines():
                    if line == _DATA + _DONE:
                        return
                    if line.startswith(_DATA):
                        yield json.loads(line.removeprefix(_DATA))
        except httpx.ConnectError as error:
            raise unreachable(str(self._http.base_url).rstrip("/"), error) from error
        except httpx.TransportError as error:
            raise ServerError(f"the connection broke: {error or type(error).__name__}") from error
        raise ServerError("the answer has no end: the server has stopped")


def _name(agent: str) -> bytes:
    """An agent's name as it is sent: in bytes, since HTTP's own text is latin-1 and names are any.

    Raises:
        InvalidRequestError: if it cannot be one; HTTP itself has no line breaks in a header.
    """
    _utf8("agent", agent)
    return AgentId.parse(agent, field="agent").name.encode()


def _utf8(field: str, text: str) -> bytes:
    """Text as it is sent. What came from outside as other bytes cannot be.

    Raises:
        InvalidRequestError: if `text` holds such bytes.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        where = f"from its character {error.start + 1} on"
        raise InvalidRequestError(f"the {field} is not UTF-8 {where}", field=field) from error


def _take(chunk: dict[str, Any], answer: Answer) -> tuple[str, str]:
    """Note what a chunk tells; the text in it, and the reasoning.

    Raises:
        ServerError: if it is an error.
    """
    if error := chunk.get("error"):
        raise ServerError(str(error.get("message")))
    if usage := chunk.get("usage"):
        answer.prompt_tokens = usage.get("prompt_tokens")
        answer.completion_tokens = usage.get("completion_tokens")
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return delta.get("content") or "", delta.get("reasoning_content") or ""
