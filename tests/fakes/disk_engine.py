"""The small engine over a real store on disk, and a store's folder in memory if there is one."""

import queue
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from tests.fakes.fixed_clock import FixedClock
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.small_engine import SmallEngine, make_job, right_answer

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.ids import TokenId

Tokens = tuple[TokenId, ...]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; in memory where that can be, so that no disk is waited for.

    What is tried there says nothing about syncing.
    """
    with ExitStack() as stack:
        place = _MEMORY if _MEMORY.is_dir() else None
        yield Path(stack.enter_context(TemporaryDirectory(dir=place)))


@dataclass
class Asked:
    """An answer, and how many tokens of the prompt were remembered."""

    tokens: Tokens
    right: bool
    cached: int


class DiskEngine:
    """An engine that keeps nothing in memory: what it remembers, it has read."""

    def __init__(
        self,
        root: Path,
        spec: ModelCacheSpec,
        *,
        hot_bytes: int = 0,
        read_timeout_s: float = PATIENCE_S,
    ) -> None:
        self.root = root
        self.telemetry = RecordedTelemetry()
        self.clock = SystemClock()
        self.blocks = IndexedBlocks(root, self.telemetry, self.clock)
        self.agents = AgentFiles(root, self.telemetry)
        self.engine = SmallEngine(
            executor=ScriptedExecutor(spec, trusting=True),
            # They are stores, if not those that the small engine has by itself.
            blocks=cast("ObservedBlocks", self.blocks),
            agents=cast("ObservedAgents", self.agents),
            telemetry=self.telemetry,
            clock=cast("FixedClock", self.clock),
            hot_bytes=hot_bytes,
            queue_bytes=1 << 24,
            read_timeout_s=read_timeout_s,
        )
        self._count = 0

    @contextmanager
    def running(self) -> Iterator["DiskEngine"]:
        """Started, and at the end stopped with everything written and the store swept."""
        with self.engine.running():
            yield self
        for _ in self.blocks.sweep():
            pass
        self.blocks.close()

    def ask(self, prompt: Tokens, length: int = 2) -> Asked:
        """A request from beginning to end; what it leaves behind is written on return."""
        self._count += 1
        job, listener = make_job(self._count, prompt, max_tokens=length)
        self.engine.loop.submit(job)
        tokens = listener.answer()
        self.catch_up()
        return Asked(tokens, tokens == right_answer(prompt, length), listener.cached)

    def catch_up(self) -> None:
        """Have what is queued written."""
        written: queue.SimpleQueue[bool] = queue.SimpleQueue()
        agent = AgentId.parse("nobody", field="agent")
        record = AgentRecord("nobody", self.engine.executor.namespace, (), 0.0)
        self.engine.writes.save(agent, record, written.put)
        written.get(timeout=PATIENCE_S)
