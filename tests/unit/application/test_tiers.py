"""What the engine tells of how a prompt begins: tiers, and what is in the way of more."""

from tests.fakes.scripted_executor import HYBRID, NAMESPACE, ScriptedExecutor
from tests.fakes.small_engine import Listener, SmallEngine
from tests.fakes.work_bench import Bench
from tests.unit.application.test_engine_work import LONG
from tests.unit.application.test_prefix_loading import BLOCK_BYTES, PROMPTS, measured, restarted

from semantic.application.engine_job import JobStarted, Loading
from semantic.domain.ids import DEFAULT_TENANT
from semantic.domain.reuse import MissCause


def started(listener: Listener) -> JobStarted:
    event = listener.events[0]
    assert isinstance(event, JobStarted)
    return event


def test_what_was_read_is_warm_and_what_is_still_in_memory_is_hot() -> None:
    bench, _ = restarted(LONG)
    assert started(bench.answer(LONG[:300])) == JobStarted(299, 299)
    # Of a block that was used in part all of it is in memory.
    assert started(bench.answer(LONG)) == JobStarted(699, 187)
    assert started(bench.answer(LONG)) == JobStarted(699)
    bench.close()


def test_nothing_is_in_the_way_of_a_new_prompt() -> None:
    bench = Bench()
    assert started(bench.answer(LONG)) == JobStarted(0)
    bench.close()


def test_who_waited_for_what_others_read_waited_for_the_disk() -> None:
    bench, disk = restarted(LONG)
    disk.stall()
    listeners = [bench.accept(LONG)[1] for _ in range(2)]
    bench.work.turn()
    disk.release()
    bench.settle()
    assert [started(one) for one in listeners] == [JobStarted(699, 699)] * 2
    bench.close()


def test_damage_is_told_and_what_came_before_it_is_used() -> None:
    bench, _ = restarted(LONG)
    (part,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[1].ids
    bench.engine.blocks.damage(NAMESPACE, part)
    assert started(bench.answer(LONG)) == JobStarted(256, 256, MissCause.QUARANTINED)
    assert started(bench.answer(LONG)) == JobStarted(699)
    bench.close()


def test_a_disk_that_is_late_is_told_also_of_those_who_do_not_wait_any_more() -> None:
    bench, disk = restarted(LONG)
    disk.stall()
    for _ in range(2):
        _, listener = bench.accept((*LONG, 1), max_tokens=1)
        while not listener.ends:
            if bench.work.idle:
                bench.engine.clock.now += bench.work.patience() or 0
            bench.work.turn()
        event = started(listener)
        assert event.obstacle is MissCause.LATE or event.cached_tokens >= 699
        bench.engine.cache.parts.pool.check()
    disk.release()
    bench.settle()
    bench.close()


def test_that_computing_is_faster_is_told() -> None:
    bench, _ = restarted(LONG)
    measured(bench, read_bytes=1000, prefill_tokens=10_000)
    assert started(bench.answer(LONG)) == JobStarted(0, 0, MissCause.RECOMPUTED)
    bench.close()


def test_that_there_is_no_room_is_told() -> None:
    bench, _ = restarted(LONG)
    job, _ = bench.accept(LONG)
    choice = bench.work._loading._choice
    loading = Loading(0.0, most_bytes=BLOCK_BYTES)
    uses = choice.worthwhile(job, choice.known(job, loading), loading)
    assert sum(use.length for use in uses) == 256
    assert loading.obstacle is MissCause.NO_ROOM
    bench.settle()
    bench.close()


def test_a_model_that_cannot_go_on_from_there_says_so() -> None:
    bench = Bench(SmallEngine(executor=ScriptedExecutor(HYBRID)))
    bench.answer(LONG)
    assert started(bench.answer((*LONG[:600], 1, 2))) == JobStarted(0, 0, MissCause.ALIGNED)
    assert started(bench.answer((*LONG[:600], 1, 2))) == JobStarted(601)
    bench.close()


def test_prompts_that_share_nothing_are_in_nobodys_way() -> None:
    bench, _ = restarted(*PROMPTS[:2])
    assert started(bench.answer(PROMPTS[2])) == JobStarted(0)
    bench.close()
