"""The small engine over a real store on disk, and a store's folder in memory if there is one."""

import queue
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from tests.fakes.blocks import SECRET
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import Chooser, ScriptedExecutor, hashed_choice
from tests.fakes.small_engine import SmallEngine, make_job, right_answer

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, StoredPart
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.ids import Namespace, TokenId

Tokens = tuple[TokenId, ...]

_BLOCK = 512
"""Bytes in which `st_blocks` counts."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; in memory where that can be, so that no disk is waited for.

    What is tried there says nothing about syncing.
    """
    with ExitStack() as stack:
        place = _MEMORY if _MEMORY.is_dir() else None
        yield Path(stack.enter_context(TemporaryDirectory(dir=place)))


def on_disk(root: Path) -> int:
    """Bytes that a folder and all in it take on the disk, as `du` counts them."""
    found = 0
    for path in (root, *root.rglob("*")):
        with suppress(FileNotFoundError):
            found += path.lstat().st_blocks * _BLOCK
    return found


class MeasuredBlocks(IndexedBlocks):
    """The real store, which can be told to look what it takes after all that it does."""

    measuring = False
    most = 0

    def put(self, *parts: StoredPart) -> None:
        super().put(*parts)
        self._measure()

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        super().delete(namespace, *parts)
        self._measure()

    def _measure(self) -> None:
        if self.measuring:
            self.most = max(self.most, on_disk(self._listing.folder.parent))


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
        choose: Chooser = hashed_choice,
        cap: int | None = None,
    ) -> None:
        self.root = root
        self.telemetry = RecordedTelemetry()
        self.clock = SystemClock()
        self.blocks = MeasuredBlocks(root, self.telemetry, self.clock)
        self.agents = AgentFiles(root, self.telemetry)
        self.engine = SmallEngine(
            executor=ScriptedExecutor(spec, choose, trusting=True),
            # They are stores, if not those that the small engine has by itself.
            blocks=cast("ObservedBlocks", self.blocks),
            agents=cast("ObservedAgents", self.agents),
            telemetry=self.telemetry,
            clock=cast("FixedClock", self.clock),
            hot_bytes=hot_bytes,
            queue_bytes=1 << 24,
            read_timeout_s=read_timeout_s,
            restore_always=True,
        )
        if cap is not None:
            self._limit(cap)
        self._count = 0

    def _limit(self, cap: int) -> None:
        """Have a keeper hold the store below a cap."""
        engine = self.engine
        assert engine.writes.close(PATIENCE_S)
        limits = SpaceLimits(cap, 1.0, 0, 0, True, 0.9, 0.8, 60.0)  # noqa: FBT003
        space = DiskSpace(self.root, self.blocks, self.clock)
        keeper = SpaceKeeper(self.blocks, space, limits, self.clock, self.telemetry)
        engine.writes = WriteBehind(
            self.blocks, self.agents, engine.queue_bytes, self.telemetry, keeper
        )
        engine.tiers = TieredStore(self.blocks, engine.writes)
        kept = CacheLimits(engine.hot_bytes, engine.state_interval, engine.resume_points)
        engine.cache = KvCache(engine.executor, engine.writes, kept, self.telemetry, SECRET)
        engine.writes.tend(engine.cache.served)

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
