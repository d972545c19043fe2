"""What agents have in common they hold once: the bytes that each further idle agent costs."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tests.fakes.agent_world import settings_of

from semantic.adapters.config.settings import Settings
from semantic.domain.agent import AgentId
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.chat import ChatMessage, Conversation, Finished, GenerationRequest, Role
from semantic.domain.ids import RequestId
from semantic.domain.prefix_index import common_length
from semantic.domain.sampling import SamplingParams
from semantic.entrypoints.bootstrap import Application, build

PREFIX = 6 * BLOCK_SIZE
QUESTIONS = ("Red?", "Blue?", "Green?", "White?", "Black?")
ANSWER = 4
MOST = 0.02
"""Of the prefix's bytes, which is 30 tokens' worth: question, template and answer take some 12."""
PATIENCE_S = 10.0
_SOON_S = 0.01


@dataclass
class Found:
    """Store bytes with one agent and with all; what memory kept after each but the first."""

    prefix_bytes: int = 0
    store_bytes: list[int] = field(default_factory=list)
    cached_tokens: list[int] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)


def conversation(system: str, question: str) -> tuple[ChatMessage, ...]:
    return ChatMessage(Role.SYSTEM, system), ChatMessage(Role.USER, question)


def system_prompt(model: Path) -> str:
    """One that, rendered, is shared to exactly `PREFIX` tokens."""
    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer  # noqa: PLC0415 - imports mlx

    tokenizer = MlxTokenizer.load(model)

    def shared(system: str) -> int:
        first, second = (
            tokenizer.encode(tokenizer.render(Conversation(tuple(conversation(system, question)))))
            for question in QUESTIONS[:2]
        )
        return common_length(first, second)

    system = topics["class"][: 3 * PREFIX]
    return system + " and" * (PREFIX - shared(system))


def told(application: Application, found: Found, system: str, questions: tuple[str, ...]) -> None:
    """Each agent's turn, one after the other; what memory holds once it is over."""
    pool = application.engine.parts.cache.parts.pool

    async def talk() -> None:
        for question in questions:
            request = GenerationRequest(
                RequestId(question),
                application.model.model_id,
                Conversation(conversation(system, question)),
                SamplingParams(max_tokens=ANSWER, temperature=0),
                AgentId.parse(question, field="name"),
            )
            async with aclosing(await application.generation.generate(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        found.cached_tokens.append(event.usage.cached_tokens)
            while pool.held:  # noqa: ASYNC110 - the engine lets go of the row, and tells nobody
                await asyncio.sleep(_SOON_S)
            found.memory_bytes.append(pool.cached)
        await application.close(PATIENCE_S)

    asyncio.run(talk())


def tried(settings: Settings, model: Path) -> Found:
    """One agent; then, after a restart, the others."""
    found = Found()
    store = settings.store.path
    application = build(settings, "no token")
    system = system_prompt(model)
    told(application, found, system, QUESTIONS[:1])
    found.prefix_bytes = sum(file.stat().st_size for file in store.rglob("*.full.st"))
    found.store_bytes.append(size(store))
    found.memory_bytes.clear()
    told(build(settings, "no token"), found, system, QUESTIONS[1:])
    found.store_bytes.append(size(store))
    return found


def size(store: Path) -> int:
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, model_cache_dir: Path, default_model_dir: Path
) -> Found:
    store = tmp_path_factory.mktemp("shared-prefix") / "store"
    # Memory for the whole prefix, which takes 71 MB.
    settings = settings_of(store, model_cache_dir, hot_bytes=256 << 20)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(tried, settings, default_model_dir).result()


def test_every_further_agent_reuses_the_whole_prefix(found: Found) -> None:
    assert found.cached_tokens == [0, *[PREFIX] * (len(QUESTIONS) - 1)]


def test_a_further_agent_adds_next_to_nothing_to_the_store(found: Found) -> None:
    one, all_of_them = found.store_bytes
    assert one >= found.prefix_bytes > 0
    further = len(QUESTIONS) - 1
    assert 0 < (all_of_them - one) / further < MOST * found.prefix_bytes


def test_a_further_agent_adds_next_to_nothing_to_memory(found: Found) -> None:
    first, *_, last = found.memory_bytes
    further = len(found.memory_bytes) - 1
    assert first >= found.prefix_bytes
    assert 0 < (last - first) / further < MOST * found.prefix_bytes
