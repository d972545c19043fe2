"""What agents remember: their records while they are in use, and keeping them up to date.

Used from one event loop only, which makes locks needless. Invariants: while a request of an agent
is open, or a record of it is still to be read or written, there is one record of that agent here,
and every turn that ends continues that one. No record is written over one that was not read: where
a disk hangs, answers go on without it, and their turns wait to be joined to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from semantic.application.agent_inspection import Memory
from semantic.application.disk_threads import SILENCE_S, DiskThreads
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Recall, Segment, joined, remember
from semantic.domain.errors import AgentBusyError, CachePersistenceError
from semantic.domain.ids import DEFAULT_TENANT, AgentKey, Namespace, TenantId
from semantic.ports.agent_store import AgentStore
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

Result = TypeVar("Result")

_THREADS = 32
"""Records that are read at once, and threads that a hung disk may keep."""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """`silence_s`: for so long a request waits for its agent's record.

    `elsewhere` are other models' namespaces, in which an agent may be known.
    """

    max_branches: int
    silence_s: float = SILENCE_S
    elsewhere: tuple[Namespace, ...] = ()


@dataclass(slots=True)
class OpenAgent:
    """An agent with requests in flight. `users` counts them, and what goes on behind them.

    That is `reading` its record, and the `saves` being written. Until the record is `known` it
    holds what was remembered meanwhile, and `unsaved` who waits to hear that this is safe; if it
    could not be read, `failure` says why. `saved` is the record that is safe on disk, None if
    there is none. `late`: it was waited for in vain. `elsewhere`: another model has one, this one
    has not.
    """

    agent: AgentId
    record: AgentRecord
    saved: AgentRecord | None = None
    users: int = 0
    saves: int = 0
    reading: bool = False
    late: bool = False
    elsewhere: bool = False
    failure: Exception | None = None
    unsaved: list[asyncio.Future[bool]] = field(default_factory=list)
    known: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def only_behind(self) -> bool:
        """Whether no request is open, but its record is still being read or written."""
        return self.users == self.saves + self.reading


class Agents:
    """The agents that talk to one model."""

    def __init__(
        self,
        store: AgentStore,
        writes: WriteBehind,
        namespace: Namespace,
        limits: AgentLimits,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._writes = writes
        self._namespace = namespace
        self._limits = limits
        self._clock = clock
        self._telemetry = telemetry
        self._threads = DiskThreads("agent-reader", _THREADS)
        self._readings: set[asyncio.Task[None]] = set()
        self._open: dict[AgentKey, OpenAgent] = {}

    async def open(self, agent: AgentId, tenant: TenantId = DEFAULT_TENANT) -> OpenAgent:
        """A tenant's agent with its record, read from the store if need be. To be closed again.

        If the store is silent for too long, or fails, it is opened without what is stored.
        """
        agent = agent.within(self._namespace, tenant)
        opened = self._open.get(agent.key)
        if opened is None:
            opened = self._open[agent.key] = OpenAgent(agent, self._empty(agent, tenant))
            self._begin_reading(opened)
        # Counted before the wait: what another request remembers meanwhile must be found here.
        opened.users += 1
        try:
            await self._awaited(opened)
        except BaseException:
            self.close(opened)
            raise
        return opened

    def close(self, opened: OpenAgent) -> None:
        """A request of the agent is done; with the last one the record leaves memory."""
        opened.users -= 1
        if opened.users == 0:
            del self._open[opened.agent.key]
            opened.closed.set()

    async def while_closed(
        self,
        agent: AgentId,
        work: Callable[[], Awaitable[Result]],
        patience_s: float,
        tenant: TenantId = DEFAULT_TENANT,
    ) -> Result:
        """Do something to an agent's memory that nobody uses; who opens it meanwhile waits.

        Where only its record is still being read or written, that is awaited.

        Raises:
            AgentBusyError: if it is open, or its record takes longer than `patience_s`.
        """
        agent = agent.within(self._namespace, tenant)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while (found := self._open.get(agent.key)) and found.only_behind:
                    await found.closed.wait()
        if agent.key in self._open:
            raise AgentBusyError(
                f"agent {agent.name!r} is being answered; try again when it is not"
            )
        opened = self._open[agent.key] = OpenAgent(agent, self._empty(agent, tenant), users=1)
        try:
            return await work()
        finally:
            if opened.users > 1:
                self._begin_reading(opened)
            self.close(opened)

    def unsaved(self) -> tuple[Memory, ...]:
        """Memories with turns that have ended and are still to be written."""
        return tuple(
            Memory(opened.record, opened.saved) for opened in self._open.values() if opened.saves
        )

    def remember(
        self, opened: OpenAgent, recalled: Recall, new: tuple[Segment, ...]
    ) -> asyncio.Future[bool]:
        """Add a turn to the record, at once, and have it saved after the turn's blocks.

        What is returned tells when that is done, and whether it worked. If the record is still
        being read, it is saved after that, and together with what was read.
        """
        limit, now = self._limits.max_branches, self._clock.time()
        opened.record = remember(opened.record, recalled, new, limit=limit, now=now)
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        opened.unsaved.append(outcome)
        if opened.known.is_set():
            self._save(opened)
        return outcome

    def _save(self, opened: OpenAgent) -> None:
        """Have the record written, unless it would take the place of one that was not read."""
        outcomes, opened.unsaved = opened.unsaved, []
        if opened.failure is not None:
            self._not_saved(opened, outcomes)
            return
        loop = asyncio.get_running_loop()
        # Until the record is written, the store's is older: who opens the agent must find this one.
        opened.users += 1
        opened.saves += 1
        record = opened.record

        def resolve(saved: bool) -> None:  # noqa: FBT001 - the writer's callback
            opened.saves -= 1
            if saved:
                opened.saved = record
            self.close(opened)
            _tell(outcomes, saved=saved)

        def written(saved: bool) -> None:  # noqa: FBT001 - the same, from its thread
            # The loop may be gone when the server stops; then nobody waits to hear.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, saved)

        self._writes.save(opened.agent, record, written)

    def _not_saved(self, opened: OpenAgent, outcomes: list[asyncio.Future[bool]]) -> None:
        reason = "its record could not be read, and is not written over"
        self._telemetry.warning("agent_not_saved", agent=opened.agent.key, error=reason)
        _tell(outcomes, saved=False)

    def _empty(self, agent: AgentId, tenant: TenantId) -> AgentRecord:
        return AgentRecord(agent.name, self._namespace, branches=(), updated_at=0.0, tenant=tenant)

    async def _awaited(self, opened: OpenAgent) -> None:
        """Wait until the record is known; but not for ever, and of several requests once."""
        if opened.late and not opened.known.is_set():
            return
        try:
            async with asyncio.timeout(self._limits.silence_s):
                await opened.known.wait()
        except TimeoutError:
            if not opened.late:
                reason = f"the store has not answered for {self._limits.silence_s:g} s"
                self._telemetry.warning("agent_unread", agent=opened.agent.key, error=reason)
            opened.late = True
        # What the disk does costs a request nothing but what is remembered; a bug is told.
        if opened.failure is not None and not isinstance(opened.failure, CachePersistenceError):
            raise opened.failure

    def _begin_reading(self, opened: OpenAgent) -> None:
        # Until it has been read nobody else may read it, or save another in its place.
        opened.users += 1
        opened.reading = True
        task = asyncio.create_task(self._read(opened))
        self._readings.add(task)
        task.add_done_callback(self._readings.discard)

    async def _read(self, opened: OpenAgent) -> None:
        load = partial(self._loaded, opened)
        try:
            stored = await asyncio.wrap_future(self._threads.begin(load))
        except asyncio.CancelledError:
            if opened.unsaved:  # the server stops: they are lost
                self._not_saved(opened, opened.unsaved)
            raise
        except Exception as error:  # noqa: BLE001 - whoever opens it hears of it
            opened.failure = error
        else:
            self._join(opened, stored)
        opened.known.set()
        if opened.unsaved:
            self._save(opened)
        opened.reading = False
        self.close(opened)

    def _loaded(self, opened: OpenAgent) -> AgentRecord | None:
        """The agent's record; if there is none, look whether another model has one."""
        stored = self._store.load(opened.agent)
        if stored is None and self._limits.elsewhere:
            named = AgentId.parse(opened.agent.name, field="agent")
            others = (named.within(one, opened.record.tenant) for one in self._limits.elsewhere)
            opened.elsewhere = any(self._store.load(one) is not None for one in others)
        return stored

    def _join(self, opened: OpenAgent, stored: AgentRecord | None) -> None:
        """The record has been read: what was remembered meanwhile follows it."""
        opened.saved = stored
        if stored is not None:
            new = bool(opened.record.branches)
            limit = self._limits.max_branches
            opened.record = joined(stored, opened.record, limit=limit) if new else stored


def _tell(outcomes: list[asyncio.Future[bool]], *, saved: bool) -> None:
    for outcome in outcomes:
        if not outcome.done():
            outcome.set_result(saved)
