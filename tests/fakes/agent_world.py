"""Many agents at once on the whole application, who leave and come back, and a restart.

Each has a conversation of several turns, all of them behind one system prompt. Some answers are
left half way and asked for again. In the middle the application is closed and built anew on the
same store, whatever is being answered. Imports no engine before that has chosen its BLAS.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics

from tests.fakes.pool_samples import Sample, observe

from semantic.adapters.config.settings import Settings
from semantic.adapters.config.sources import load_settings
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.chat import (
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationRequest,
    Role,
    Started,
    TextDelta,
)
from semantic.domain.errors import EngineError, PoolExhaustedError
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams
from semantic.entrypoints.bootstrap import Application, build

CONFIG = Path(__file__).parents[2] / "config" / "test.toml"
ANSWER = 8
SYSTEM_CHARACTERS = 1900
"""Some 512 tokens."""
_PATIENCE_S = 10.0
_RETRY_S = 0.05
"""After a refusal for want of room."""


def settings_of(store: Path, cache_dir: Path, hot_bytes: int = 64 << 20, **engine: int) -> Settings:
    """Of a small server for tests on the default model, with `engine` laid over."""
    values: Mapping[str, Mapping[str, object]] = {
        "model": {"id": "default", "cache_dir": str(cache_dir)},
        "store": {"dir": str(store), "hot_bytes": hot_bytes},
        "engine": engine,
    }
    return load_settings(values, config=CONFIG, env_file=None)


@dataclass
class Seen:
    """What came of it. `texts`: every piece of answer that an agent was shown, by the turn."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    left: int = 0
    cut_off: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    records: list[AgentRecord] = field(default_factory=list)


class AgentWorld:
    """Runs `num_agents` x `num_turns`. No request may take longer than `deadline_s`."""

    def __init__(
        self, settings: Settings, num_agents: int, num_turns: int, deadline_s: float
    ) -> None:
        self._settings = settings
        self._num_agents = num_agents
        self._num_turns = num_turns
        self._deadline_s = deadline_s
        self._seen = Seen()
        self._answers = 0
        self._open = asyncio.Event()
        self._half_way = asyncio.Event()
        self._application: Application

    async def run(self) -> Seen:
        """All conversations, to their ends.

        Raises:
            TimeoutError: if a request hangs.
        """
        self._begin()
        talks = [asyncio.create_task(self._talk(number)) for number in range(self._num_agents)]
        restarting = asyncio.create_task(self._restart())
        await asyncio.gather(*talks, restarting)
        await self._application.close(_PATIENCE_S)
        records = AgentFiles(self._settings.store.path, self._application.telemetry)
        self._seen.records = list(records.list())
        return self._seen

    def _begin(self) -> None:
        self._application = build(self._settings, "no token")
        observe(self._application, self._seen.samples.append)
        self._open.set()

    async def _restart(self) -> None:
        """Once half of all has been answered, in the middle of the next answers."""
        await self._half_way.wait()
        self._open.clear()
        await self._application.close(_PATIENCE_S)
        self._begin()

    async def _talk(self, number: int) -> None:
        name = f"agent {number}"
        texts = self._seen.texts[name] = []
        messages = [ChatMessage(Role.SYSTEM, topics["class"][:SYSTEM_CHARACTERS])]
        for turn in range(self._num_turns):
            question = f"I am {name}. What is the word number {turn + 3 * number} of the text?"
            messages.append(ChatMessage(Role.USER, question))
            if (number + turn) % 3 == 0:
                # Some while their prompt is being read, some in the middle of the answer.
                texts.append(await self._ask(name, messages, pieces=number % 4))
                self._seen.left += 1
            answer = await self._ask(name, messages)
            texts.append(answer)
            self._answers += 1
            if self._answers == self._num_agents * self._num_turns // 2:
                self._half_way.set()
            messages.append(ChatMessage(Role.ASSISTANT, answer))

    async def _ask(self, name: str, messages: list[ChatMessage], pieces: int | None = None) -> str:
        """Ask until there is an answer, or with `pieces` leave once there are so many."""
        while True:
            await self._open.wait()
            begin = time.monotonic()
            try:
                async with asyncio.timeout(self._deadline_s):
                    text, whole = await self._heard(name, messages, pieces)
            except PoolExhaustedError:
                self._seen.refused += 1
                await asyncio.sleep(_RETRY_S)
                continue
            except EngineError:
                whole = False  # it was being closed
            self._seen.slowest_s = max(self._seen.slowest_s, time.monotonic() - begin)
            if whole:
                return text
            self._seen.cut_off += 1
            await asyncio.sleep(_RETRY_S)

    async def _heard(
        self, name: str, messages: list[ChatMessage], pieces: int | None
    ) -> tuple[str, bool]:
        """The text, and whether nobody else cut it off."""
        request = GenerationRequest(
            RequestId(name),
            self._application.model.model_id,
            Conversation(tuple(messages)),
            SamplingParams(max_tokens=ANSWER, temperature=0),
            AgentId.parse(name, field="name"),
        )
        text, count = "", 0
        async with aclosing(await self._application.generation.generate(request)) as events:
            async for event in events:
                count += isinstance(event, Started | TextDelta)
                if isinstance(event, TextDelta):
                    text += event.text
                if isinstance(event, Finished):
                    return text, event.reason is not FinishReason.CANCELLED
                if pieces is not None and count > pieces:
                    return text, True
        raise EngineError("an answer without an end")
