"""Agents who talk to the whole application over a real store, without a model and without HTTP."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.disk_engine import DiskEngine
from tests.fakes.letter_tokenizer import LetterTokenizer
from tests.fakes.scripted_executor import UNIFORM
from tests.fakes.small_engine import right_answer
from tests.unit.application.test_generation import (
    Answer,
    Server,
    letters,
    rendered,
    request_of,
)

from semantic.domain.agent import AgentId
from semantic.domain.cache_spec import ModelCacheSpec

ANSWER_TOKENS = 4
_PATIENCE_S = 20.0


class _Literal(Server):
    """Blank space at the end of answers stays, as what is right is known for such prompts only."""

    RULES = frozenset()


@dataclass
class Talk:
    """An agent's conversation: what it said and was answered."""

    name: str
    said: list[str] = field(default_factory=list)


class DiskApp:
    """Answers agents. `right` counts answers as they must be, `wrong` holds all others."""

    def __init__(
        self, root: Path, spec: ModelCacheSpec = UNIFORM, *, patience_s: float = _PATIENCE_S
    ) -> None:
        self.disk = DiskEngine(root, spec, read_timeout_s=patience_s, choose=letters)
        self._server = _Literal(self.disk.engine, commit_timeout_s=patience_s)
        self._loop = asyncio.new_event_loop()
        self.right = 0
        self.wrong: list[str] = []

    @contextmanager
    def running(self) -> Iterator["DiskApp"]:
        """Started, and at the end stopped with everything written."""
        try:
            with self.disk.running():
                yield self
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def ask(self, talk: Talk, text: str) -> int:
        """Another turn of a conversation; how many tokens of it were remembered.

        What it leaves behind is written on return, if that is possible within the patience.
        """
        said = [*talk.said, text]
        request = request_of(
            *said, max_tokens=ANSWER_TOKENS, agent=AgentId.parse(talk.name, field="name")
        )
        try:
            answer: Answer = self._loop.run_until_complete(
                asyncio.wait_for(self._server.answered(request), _PATIENCE_S)
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
            self.wrong.append(f"no answer: {error!r}")
            return 0
        tokens = right_answer(LetterTokenizer().encode(rendered(*said)), ANSWER_TOKENS, letters)
        if answer.text == LetterTokenizer().decode(tokens):
            self.right += 1
        else:
            self.wrong.append(f"{answer.text!r} was answered")
        talk.said = [*said, answer.text]
        return answer.cached

    def catch_up(self) -> None:
        """Wait until nothing is left to be written, or remembered."""
        self.disk.catch_up()
        self._loop.run_until_complete(self._server.generation.drain(_PATIENCE_S))
