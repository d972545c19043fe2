"""Models with windows and with recurrent layers, served for real, killed and started again."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.server_process import ServerProcess
from tests.e2e.conftest import connect
from tests.fakes.model_families import FAMILIES, with_window
from tests.fakes.random_models import VOCABULARY, write_folder

MODELS: Mapping[str, Mapping[str, Any]] = {
    "gemma3": with_window(FAMILIES["gemma3"], 300),
    "qwen3_next": FAMILIES["qwen3_next"],
}
SYSTEM = " ".join(str(number * 7 % VOCABULARY) for number in range(400))
QUESTIONS = [
    " ".join(str((number * step + 1) % VOCABULARY) for number in range(300)) for step in (3, 5, 11)
]


class Talk:
    """A conversation of one agent with whatever server there is."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._messages: list[Any] = [{"role": "system", "content": SYSTEM}]

    def ask(self, server: ServerProcess, question: str) -> tuple[str, int, int]:
        """The answer, the prompt's tokens, and how many of these were reused."""
        self._messages.append({"role": "user", "content": question})
        with connect(server) as client:
            answer = client.chat.completions.create(
                model=client.models.list().data[0].id,
                messages=self._messages,
                temperature=0,
                max_tokens=24,
                extra_headers={"X-Agent-ID": self._agent},
            )
        text = answer.choices[0].message.content or ""
        self._messages.append({"role": "assistant", "content": text})
        usage = answer.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return text, usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens or 0


@pytest.mark.parametrize("family", MODELS)
def test_after_sigkill_they_say_the_same_and_compute_little_again(
    family: str, tmp_path: Path
) -> None:
    model = write_folder(tmp_path / family, MODELS[family])
    settings = {
        "SEMANTIC_MODEL__ID": str(model),
        "SEMANTIC_ENGINE__BLAS_THREADS": "1",
        "SEMANTIC_STORE__DURABILITY": "full",
    }

    def server(name: str) -> ServerProcess:
        return ServerProcess(tmp_path / name, log=tmp_path / f"{name}.log", settings=settings)

    whole, halved = Talk("one"), Talk("one")
    with server("uninterrupted") as never_killed:
        expected = [whole.ask(never_killed, question) for question in QUESTIONS]
    answers = []
    for question in QUESTIONS:
        killed = server("killed").start()
        answers.append(halved.ask(killed, question))
        killed.kill()
    assert answers == expected
    for (_, before, _), (_, _, reused) in pairwise(answers):
        # All of it, where the answer is told back token by token; else to the token before last.
        assert reused >= before - 1
    # Another agent with the same system prompt goes on from its end.
    with server("killed") as again:
        _, prompt, reused = Talk("two").ask(again, "1 2 3")
        assert 390 < reused < prompt
