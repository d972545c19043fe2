import threading
import time

import pytest
from tests.fakes.memory_api_keys import MemoryApiKeys
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.access import Access
from semantic.domain.api_key import ApiKey, digest_of
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import KeyName

ALICE = ApiKey(KeyName("alice"), digest_of("a"), 1.0)
BOB = ApiKey(KeyName("bob"), digest_of("b"), 2.0)


def test_without_keys_everybody_is_let_in() -> None:
    assert Access(MemoryApiKeys(), RecordedTelemetry()).open


def test_without_keys_nobody_is_let_in_where_one_is_needed() -> None:
    access = Access(MemoryApiKeys(), RecordedTelemetry(), needed=True)
    assert not access.open
    assert access.key("a") is None


def test_with_a_key_nobody_is_let_in_without() -> None:
    access = Access(MemoryApiKeys(ALICE), RecordedTelemetry())
    assert not access.open
    assert (access.key("a"), access.key("b")) == (ALICE, None)


def test_a_first_key_closes_a_running_server() -> None:
    keys = MemoryApiKeys()
    access = Access(keys, RecordedTelemetry())
    keys.add(ALICE)
    access.look()
    assert not access.open
    assert access.key("a") == ALICE


def test_a_revoked_key_opens_nothing_any_more() -> None:
    keys = MemoryApiKeys(ALICE, BOB)
    access = Access(keys, RecordedTelemetry())
    keys.remove(ALICE.name)
    access.look()
    assert (access.key("a"), access.key("b")) == (None, BOB)


def test_revoking_the_last_key_opens_no_running_server() -> None:
    keys = MemoryApiKeys(ALICE)
    access = Access(keys, RecordedTelemetry())
    keys.remove(ALICE.name)
    access.look()
    assert not access.open
    assert access.key("a") is None


@pytest.mark.parametrize("known", [(), (ALICE,)])
def test_keys_that_cannot_be_read_let_nobody_in(known: tuple[ApiKey, ...]) -> None:
    keys, telemetry = MemoryApiKeys(*known), RecordedTelemetry()
    access = Access(keys, telemetry)
    keys.damaged = True
    for _ in range(3):
        access.look()
    assert (access.open, access.readable, access.key("a")) == (False, False, None)
    assert [(level, event) for level, event, _ in telemetry.events] == [
        ("error", "keys_not_readable")
    ]


def test_keys_that_can_be_read_again_let_in_again() -> None:
    keys = MemoryApiKeys(ALICE)
    access = Access(keys, RecordedTelemetry())
    keys.damaged = True
    access.look()
    keys.damaged = False
    access.look()
    assert (access.readable, access.key("a")) == (True, ALICE)


def test_whatever_goes_wrong_in_looking_lets_nobody_in() -> None:
    class Broken(MemoryApiKeys):
        def all(self) -> tuple[ApiKey, ...]:
            if self.damaged:
                raise KeyError("unforeseen")
            return super().all()

    keys = Broken(ALICE)
    access = Access(keys, RecordedTelemetry())
    keys.damaged = True
    access.look()
    assert (access.open, access.key("a")) == (False, None)


def test_a_server_does_not_start_with_keys_that_cannot_be_read() -> None:
    keys = MemoryApiKeys(ALICE)
    keys.damaged = True
    with pytest.raises(CachePersistenceError):
        Access(keys, RecordedTelemetry())


def test_a_change_counts_within_a_second_and_the_thread_ends() -> None:
    keys = MemoryApiKeys()
    access = Access(keys, RecordedTelemetry())
    access.start()
    try:
        keys.add(ALICE)
        # Half a second between looks, and as much again for a machine that is busy.
        deadline = time.monotonic() + 1.0
        while access.open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not access.open
    finally:
        access.close()
    for thread in threading.enumerate():
        if thread.name == "keys":
            thread.join(5)
            assert not thread.is_alive()
