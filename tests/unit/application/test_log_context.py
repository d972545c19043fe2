"""Whatever thread reports on a request names it."""

from contextvars import ContextVar
from dataclasses import dataclass

from tests.fakes.recorded_telemetry import RecordedTelemetry, Value
from tests.fakes.small_engine import SmallEngine, make_job

from semantic.domain.ids import TokenId

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")
LONG: tuple[TokenId, ...] = tuple(number * 7 % 95 for number in range(700))


@dataclass
class NamingTelemetry(RecordedTelemetry):
    """Adds to each event the request in whose context it was reported."""

    def warning(self, event: str, **fields: Value) -> None:
        super().warning(event, **fields, request=REQUEST.get())

    def error(self, event: str, **fields: Value) -> None:
        super().error(event, **fields, request=REQUEST.get())


def engine(**settings: int) -> SmallEngine:
    return SmallEngine(telemetry=NamingTelemetry(), **settings)  # type: ignore[arg-type] # by name


def submit(engine: SmallEngine, number: int) -> None:
    token = REQUEST.set(f"r{number}")
    job, listener = make_job(number, LONG)
    REQUEST.reset(token)
    engine.loop.submit(job)
    listener.last()


def names(engine: SmallEngine) -> set[tuple[str, Value]]:
    return {(event, fields.get("request")) for _, event, fields in engine.telemetry.events}


def test_the_engines_thread_names_the_request() -> None:
    one = engine(queue_bytes=0)
    with one.running():
        submit(one, 1)
    assert names(one) == {("block_kept_in_memory_only", "r1")}


def test_reading_and_writing_threads_name_the_request() -> None:
    one = engine(hot_bytes=0)
    with one.running():
        submit(one, 1)
        assert one.writes.close(10)
    two = SmallEngine(
        telemetry=NamingTelemetry(), blocks=one.blocks, agents=one.agents, hot_bytes=0
    )
    with two.running():
        for header in list(one.blocks.headers(one.executor.capabilities.namespace)):
            one.blocks.damage(header.namespace, header.id)
        one.blocks.journal.refused.update(
            header.id for header in one.blocks.headers(one.executor.capabilities.namespace)
        )
        submit(two, 2)
        assert two.writes.close(10)
    assert ("block_unusable", "r2") in names(two)
    assert ("block_not_written", "r2") in names(two)
    assert {request for _, request in names(two)} == {"r2"}


def test_two_requests_are_not_mixed_up() -> None:
    one = engine(queue_bytes=0)
    with one.running():
        for number in (1, 2):
            submit(one, number)
    assert {request for _, request in names(one)} <= {"r1", "r2"}
