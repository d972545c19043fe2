import asyncio
import threading
from dataclasses import replace

import pytest
from tests.fakes.memory_response_store import MemoryResponseStore
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.response_history import ResponseHistory
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse

FIRST = StoredResponse(ResponseId("a"), 0.0, "[]", "{}", first=ResponseId("a"))
SECOND = replace(FIRST, id=ResponseId("b"), previous=FIRST.id)
THIRD = replace(FIRST, id=ResponseId("c"), previous=SECOND.id)


class HangingStore(MemoryResponseStore):
    """Answers once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def save(self, response: StoredResponse) -> None:
        self.let_go.wait()
        super().save(response)

    def load(self, tenant: TenantId, response: ResponseId) -> StoredResponse | None:
        self.let_go.wait()
        return super().load(tenant, response)


def test_a_chain_is_told_from_its_beginning() -> None:
    async def story() -> None:
        history = ResponseHistory(MemoryResponseStore(), RecordedTelemetry())
        for response in (FIRST, SECOND, THIRD):
            assert await history.keep(response)
        assert await history.chain(DEFAULT_TENANT, THIRD.id, tuple) == (FIRST, SECOND, THIRD)
        assert await history.chain(DEFAULT_TENANT, FIRST.id, tuple) == (FIRST,)
        assert await history.response(DEFAULT_TENANT, SECOND.id) == SECOND

    asyncio.run(story())


def test_a_chain_with_a_hole_is_none() -> None:
    async def story() -> None:
        history = ResponseHistory(MemoryResponseStore(), RecordedTelemetry())
        for response in (FIRST, SECOND, THIRD):
            await history.keep(response)
        assert await history.delete(DEFAULT_TENANT, FIRST.id)
        assert not await history.delete(DEFAULT_TENANT, FIRST.id)
        assert await history.chain(DEFAULT_TENANT, THIRD.id, tuple) is None

    asyncio.run(story())


def test_a_failing_store_keeps_nothing_and_is_reported() -> None:
    async def story() -> None:
        store, telemetry = MemoryResponseStore(), RecordedTelemetry()
        history = ResponseHistory(store, telemetry)
        store.failing = True
        assert not await history.keep(FIRST)
        assert telemetry.names() == ["response_not_kept"]
        with pytest.raises(CachePersistenceError):
            await history.chain(DEFAULT_TENANT, FIRST.id, tuple)

    asyncio.run(story())


def test_nobody_waits_for_a_hung_disk_for_ever() -> None:
    async def story() -> None:
        store = HangingStore()
        history = ResponseHistory(store, RecordedTelemetry(), silence_s=0.01, chain_s=0.01)
        try:
            assert not await history.keep(FIRST)
            with pytest.raises(CachePersistenceError, match="not answered"):
                await history.response(DEFAULT_TENANT, FIRST.id)
            with pytest.raises(CachePersistenceError, match="not answered"):
                await history.chain(DEFAULT_TENANT, FIRST.id, tuple)
        finally:
            store.let_go.set()

    asyncio.run(story())
