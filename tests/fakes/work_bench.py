"""The engine's work on one thread: the test is the engine's thread."""

import queue

from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.small_engine import Listener, SmallEngine, make_job, right_answer

from semantic.application.engine_job import Job
from semantic.application.engine_work import EngineWork
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.block import PartId, StoredPart
from semantic.domain.ids import DEFAULT_TENANT, AgentKey, TenantId, TokenId

Tokens = tuple[TokenId, ...]


class Bench:
    """`work`, and the messages that wait for it."""

    def __init__(self, engine: SmallEngine | None = None) -> None:
        self.engine = engine or SmallEngine()
        self.arrivals: queue.SimpleQueue[tuple[PartId, StoredPart | None]] = queue.SimpleQueue()
        self.num_closed = 0
        self.parts = self.engine.parts()
        self.work = EngineWork(
            self.parts, lambda *message: self.arrivals.put(message), self.count_closed
        )
        self.count = 0

    def count_closed(self) -> None:
        self.num_closed += 1

    def accept(
        self,
        prompt: Tokens,
        max_tokens: int = 8,
        stops: tuple[str, ...] = (),
        stop_tokens: frozenset[TokenId] = frozenset(),
        *,
        agent: AgentKey | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[Job, Listener]:
        self.count += 1
        job, listener = make_job(self.count, prompt, max_tokens, stops, stop_tokens)
        job.sequence.agent, job.sequence.tenant = agent, TenantId(tenant)
        self.work.accept(job)
        return job, listener

    def settle(self) -> None:
        """Go on until nothing is left to do or to come."""
        while True:
            while not self.work.idle:
                self.work.turn()
            patience = self.work.patience()
            if patience is None:
                return
            if patience:
                self.arrive()
            else:
                self.work.turn()

    def arrive(self) -> None:
        self.work.arrived(*self.arrivals.get(timeout=PATIENCE_S))

    def answer(self, prompt: Tokens, max_tokens: int = 8) -> Listener:
        """A job from beginning to end, and its right answer."""
        _, listener = self.accept(prompt, max_tokens)
        self.settle()
        assert listener.answer() == right_answer(prompt, max_tokens)
        return listener

    def restart(
        self, limits: SchedulerLimits | None = None, kv_bytes: int | None = None
    ) -> "Bench":
        self.close()
        engine = self.engine.restarted(kv_bytes)
        engine.limits = limits or engine.limits
        return Bench(engine)

    def close(self) -> None:
        """Nothing may be left over."""
        self.parts.reader.close()
        self.engine.blocks.reading.open()
        assert self.engine.writes.close(PATIENCE_S)
        assert self.num_closed == self.count
        assert len(self.parts.scheduler) == 0
        assert not self.engine.executor.sequences
        assert self.work.idle

    def names(self) -> list[str]:
        return self.engine.names()
