from collections.abc import Sequence

from tests.fakes.recorded_telemetry import Event, RecordedTelemetry
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.small_engine import SmallEngine
from tests.fakes.work_bench import Bench

from semantic.application.engine_job import JobFailed
from semantic.application.memory_gauge import MemoryGauge
from semantic.domain.block_pool import BlockPool, Holder, Pressure
from semantic.domain.errors import PoolExhaustedError
from semantic.ports.administration import MemoryUse


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple((seed * 31 + number * 7) % 95 for number in range(length))


def bench_of(kv_bytes: int) -> Bench:
    """A byte is little beside a row's token, which takes 100."""
    executor = ScriptedExecutor(bytes_per_token=100)
    return Bench(SmallEngine(executor=executor, kv_bytes=kv_bytes))


def use_of(bench: Bench) -> MemoryUse:
    return bench.parts.cache.gauge.use


def pressures(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.name == "kv_pressure"]


def seen(gauge: MemoryGauge, pool: BlockPool, held: int) -> MemoryUse:
    pool.claim(Holder.RUNNING, held)
    gauge.look(in_work=0, batches=0, waiting=0)
    return gauge.use


class TestReport:
    def test_another_pressure_is_told_once(self) -> None:
        pool, telemetry = BlockPool(1000, 1000), RecordedTelemetry()
        gauge = MemoryGauge(pool, telemetry)
        for held in (0, 499, 500, 510, 800, 801, 100, 0):
            seen(gauge, pool, held)
        assert [(event.level, event.fields["level"]) for event in telemetry.events] == [
            ("info", "moderate"),
            ("info", "high"),
            ("info", "low"),
        ]

    def test_it_says_how_much_there_is_and_who_has_it(self) -> None:
        pool, telemetry = BlockPool(1000, 1000), RecordedTelemetry()
        seen(MemoryGauge(pool, telemetry), pool, 600)
        [(_, name, fields)] = telemetry.events
        assert name == "kv_pressure"
        assert fields == {"level": "moderate", "held": 600, "cached": 0, "total": 1000}

    def test_when_hardly_anything_is_left_it_is_a_warning(self) -> None:
        pool, telemetry = BlockPool(1000, 1000), RecordedTelemetry()
        gauge = MemoryGauge(pool, telemetry)
        assert seen(gauge, pool, 950).pressure is Pressure.CRITICAL
        seen(gauge, pool, 900)
        assert [event.level for event in telemetry.events] == ["warning", "info"]


class TestUse:
    def test_what_was_seen_stays_as_it_was(self) -> None:
        pool = BlockPool(1000, 1000)
        gauge = MemoryGauge(pool, RecordedTelemetry())
        before = seen(gauge, pool, 300)
        pool.claim(Holder.READING, 200)
        assert (gauge.use, gauge.use.held) == (before, 300)
        after = seen(gauge, pool, 100)
        assert (after.held, after.running, after.reading) == (300, 100, 200)
        assert (before.running, before.reading) == (300, 0)

    def test_it_is_of_one_moment_after_every_turn(self) -> None:
        bench = bench_of(90_000)
        pool = bench.parts.cache.parts.pool
        for seed in range(6):
            bench.accept(prompt_of(100 * seed + 10, seed), max_tokens=100)
        most = 0
        while not bench.work.idle:
            bench.work.turn()
            use = use_of(bench)
            assert use.free + use.held + use.cached == use.total == 90_000
            assert (use.held, use.cached) == (pool.held, pool.cached)
            assert use.running == pool.claimed(Holder.RUNNING)
            assert (use.in_work, use.batches) == (
                len(bench.parts.scheduler),
                len(bench.parts.scheduler.batches),
            )
            most = max(most, use.running)
        assert most > 0
        bench.settle()
        use = use_of(bench)
        assert (use.held, use.in_work, use.batches, use.waiting) == (0, 0, 0, 0)
        bench.close()

    def test_who_waits_is_counted_until_it_ends(self) -> None:
        bench = bench_of(60_000)
        bench.accept(prompt_of(300), max_tokens=3)
        late, _ = bench.accept(prompt_of(300, 1), max_tokens=3)
        bench.work.turn()
        assert (use_of(bench).in_work, use_of(bench).waiting) == (1, 1)
        bench.work.cancel(late.sequence.id)
        bench.work.turn()
        assert (use_of(bench).in_work, use_of(bench).waiting) == (1, 0)
        bench.settle()
        bench.close()

    def test_what_is_read_is_seen_until_it_has_come(self) -> None:
        bench = Bench()
        bench.answer(prompt_of(600))
        bench = bench.restart()
        bench.engine.blocks.reading.shut()
        bench.accept((*prompt_of(600), 1))
        bench.work.turn()
        assert use_of(bench).reading == bench.parts.cache.parts.pool.claimed(Holder.READING) > 0
        bench.engine.blocks.reading.open()
        bench.settle()
        assert use_of(bench).reading == 0
        bench.close()

    def test_who_gives_way_is_counted_and_waits_once_more(self) -> None:
        bench = bench_of(90_000)
        for seed in range(2):
            bench.accept(prompt_of(100, seed), max_tokens=600)
        while not (bench.work.idle or use_of(bench).preemptions):
            bench.work.turn()
        assert (use_of(bench).in_work, use_of(bench).waiting) == (1, 1)
        bench.settle()
        assert use_of(bench).preemptions == bench.names().count("sequence_preempted")
        bench.close()


def test_an_engine_that_fills_up_and_empties_tells_so() -> None:
    bench = bench_of(90_000)
    for seed in range(2):
        bench.accept(prompt_of(100, seed), max_tokens=600)
    bench.settle()
    told = pressures(bench.engine.telemetry.events)
    levels = [event.fields["level"] for event in told]
    assert {"moderate", "low"} <= set(levels)
    assert levels[-1] == "low"
    assert all(one != other for one, other in zip(["low", *levels], levels, strict=False))
    assert all(
        (event.level == "warning") == (event.fields["level"] == "critical") for event in told
    )
    bench.close()


def test_a_request_that_is_refused_is_no_preemption() -> None:
    bench = bench_of(10_000)
    _, listener = bench.accept(prompt_of(300))
    bench.settle()
    end = listener.last()
    assert isinstance(end, JobFailed)
    assert isinstance(end.error, PoolExhaustedError)
    assert (use_of(bench).preemptions, use_of(bench).waiting) == (0, 0)
    bench.close()
