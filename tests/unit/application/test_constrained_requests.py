"""Whose form is known waits for nobody whose form is not."""

import asyncio
import threading
from dataclasses import replace

import pytest
from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.small_engine import SmallEngine
from tests.unit.application.test_generation import Server, request_of, saying

from semantic.domain.chat import GenerationRequest
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.domain.tools import JsonAnswer, ToolUse
from semantic.ports.answer_constraints import Constraint, TokenMask

KNOWN, REFUSED, SLOW = (JsonAnswer(f'{{"title": "{name}"}}') for name in "abc")
MORE_THAN_THREADS = 12


class Anything:
    """A form that every answer has, as constraint and as mask."""

    def begin(self) -> TokenMask:
        return self

    def accept(self, token: TokenId) -> None:
        pass

    def allowed(self) -> bytes | None:
        return None


class SlowForms:
    """Implements `AnswerConstraints`: what is not known takes until `made`."""

    def __init__(self) -> None:
        self.made = threading.Event()
        self.asked = threading.Semaphore(0)

    def known(
        self,
        use: ToolUse,  # noqa: ARG002 - the port's
        json: JsonAnswer | None,
        *,
        reasons: bool,  # noqa: ARG002 - the port's
    ) -> Constraint | None:
        if json == REFUSED:
            raise InvalidRequestError("no", field="response_format")
        return Anything() if json == KNOWN else None

    def of(
        self,
        use: ToolUse,  # noqa: ARG002 - the port's
        json: JsonAnswer | None,  # noqa: ARG002 - the port's
        *,
        reasons: bool,  # noqa: ARG002 - the port's
    ) -> Constraint | None:
        self.asked.release()
        assert self.made.wait(PATIENCE_S)
        return Anything()


class FormServer(Server):
    CONSTRAINTS = SlowForms()


def asking(form: JsonAnswer) -> GenerationRequest:
    return replace(request_of("hello", max_tokens=9), json=form)


def test_a_known_form_waits_for_no_new_one() -> None:
    forms = FormServer.CONSTRAINTS
    server = FormServer(SmallEngine(ScriptedExecutor(choose=saying("yes")))).start()

    async def asked() -> None:
        slow = [
            asyncio.create_task(server.answered(asking(SLOW))) for _ in range(MORE_THAN_THREADS)
        ]
        await asyncio.to_thread(forms.asked.acquire, timeout=PATIENCE_S)
        assert (await asyncio.wait_for(server.answered(asking(KNOWN)), PATIENCE_S)).text == "yes"
        with pytest.raises(InvalidRequestError):
            await asyncio.wait_for(server.answered(asking(REFUSED)), PATIENCE_S)
        assert not any(task.done() for task in slow)
        forms.made.set()
        assert [(await task).text for task in slow] == ["yes"] * MORE_THAN_THREADS

    server.run(asked())
    server.stop()
