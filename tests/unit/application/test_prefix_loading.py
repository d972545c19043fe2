"""Everything on one thread, but for those that read: the test is the engine's thread."""

from dataclasses import replace

import pytest
from tests.fakes.faulty_blocks import FaultyBlocks
from tests.fakes.scripted_executor import NAMESPACE, SPECS, UNIFORM, ScriptedExecutor
from tests.fakes.small_engine import SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens
from tests.unit.application.test_engine_work import LONG

from semantic.domain.block import PartId, PartKind
from semantic.domain.block_pool import Holder
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.ids import DEFAULT_TENANT
from semantic.domain.step_plan import StepPlan, StepResult

BLOCK_BYTES = UNIFORM.nbytes(PartKind.FULL)
PROMPTS: list[Tokens] = [tuple((seed + 3 * n) % 95 for n in range(513)) for seed in range(8)]
"""They share nothing."""


def restarted(
    *prompts: Tokens,
    spec: ModelCacheSpec = UNIFORM,
    hot_bytes: int = 1 << 20,
    restore_always: bool = False,
    read_timeout_s: float = 60.0,
) -> tuple[Bench, FaultyBlocks]:
    """The prompts are on disk, which can be made to hang, and nothing is in memory."""
    bench = Bench(SmallEngine(executor=ScriptedExecutor(spec), state_interval=256))
    for prompt in prompts:
        bench.answer(prompt)
    bench.close()
    engine = bench.engine.restarted()
    disk = FaultyBlocks(engine.blocks)
    engine = replace(
        engine,
        disk=disk,
        hot_bytes=hot_bytes,
        restore_always=restore_always,
        read_timeout_s=read_timeout_s,
    )
    return Bench(engine), disk


def measured(bench: Bench, *, read_bytes: float, prefill_tokens: float) -> None:
    """What has been learnt by now, a second of each."""
    now = bench.engine.clock.now
    bench.parts.reader._rate.count(read_bytes, 1.0, now)
    bench.work._loading._choice._prefill.count(prefill_tokens, 1.0, now)


def reads_of(bench: Bench) -> list[object]:
    return [part for action, part in bench.engine.blocks.journal.entries if action == "get"]


class TestChoice:
    def test_before_anything_is_measured_all_is_restored(self) -> None:
        bench, _ = restarted(LONG)
        assert bench.answer(LONG).cached == 699
        bench.close()

    def test_what_is_read_more_slowly_than_computed_is_computed(self) -> None:
        bench, _ = restarted(LONG)
        measured(bench, read_bytes=1000, prefill_tokens=10_000)
        assert bench.answer(LONG).cached == 0
        assert reads_of(bench) == []
        ((level, event, fields),) = bench.engine.telemetry.events
        assert (level, event) == ("info", "recomputing_is_faster")
        assert (fields["known"], fields["restored"]) == (699, 0)
        bench.close()

    def test_a_fast_disk_is_read(self) -> None:
        bench, _ = restarted(LONG)
        measured(bench, read_bytes=1_000_000, prefill_tokens=1000)
        assert bench.answer(LONG).cached == 699
        bench.close()

    def test_what_is_in_memory_is_used_all_the_same(self) -> None:
        bench, _ = restarted(LONG)
        bench.answer(LONG[:300])
        measured(bench, read_bytes=1000, prefill_tokens=10_000)
        assert bench.answer(LONG).cached == 512
        bench.close()

    def test_always_means_always(self) -> None:
        bench, _ = restarted(LONG, restore_always=True)
        measured(bench, read_bytes=1, prefill_tokens=10_000_000)
        assert bench.answer(LONG).cached == 699
        bench.close()

    def test_a_disk_that_was_slow_is_asked_again_after_a_while(self) -> None:
        bench, _ = restarted(*PROMPTS[:2])
        measured(bench, read_bytes=1000, prefill_tokens=10_000)
        assert bench.answer(PROMPTS[0]).cached == 0
        bench.engine.clock.now += 61
        assert bench.answer(PROMPTS[1]).cached == 512
        bench.close()

    @pytest.mark.parametrize("model", SPECS)
    @pytest.mark.parametrize("prefill_tokens", [100, 2000, 100_000])
    def test_models_of_every_kind_go_on_from_where_they_can(
        self, model: str, prefill_tokens: int
    ) -> None:
        bench, _ = restarted(LONG, spec=SPECS[model])
        bench.answer(LONG[:520])
        measured(bench, read_bytes=20_000, prefill_tokens=prefill_tokens)
        bench.answer((*LONG, 3, 4))
        bench.close()

    def test_how_fast_prompts_are_computed_is_learnt_from_the_steps(self) -> None:
        bench = Bench()
        run = bench.engine.executor.run

        def slow(plan: StepPlan) -> StepResult:
            bench.engine.clock.now += 1
            return run(plan)

        bench.engine.executor.run = slow  # type: ignore[method-assign]
        bench.answer(LONG, 1)
        # Of 512, 187 and 1 token: the last step is no measure of it.
        learnt = bench.work._loading._choice._prefill.per_second(bench.engine.clock.now)
        assert learnt == pytest.approx(699 / 2, rel=0.1)
        bench.close()


class TestTurns:
    def test_no_more_is_read_at_once_than_memory_may_hold(self) -> None:
        bench, disk = restarted(*PROMPTS, hot_bytes=5 * BLOCK_BYTES)
        disk.stall()
        listeners = [bench.accept(prompt)[1] for prompt in PROMPTS[:4]]
        bench.work.turn()
        disk.wait_stopped(2)
        assert len(bench.work._loading._memory._reads) == 4  # of two of them
        disk.release()
        while any(not listener.ends for listener in listeners):
            pool = bench.engine.cache.parts.pool
            assert pool.cached <= pool.cached_limit
            assert pool.claimed(Holder.READING) <= pool.cached_limit
            if bench.work.idle:
                bench.arrive()
            else:
                bench.work.turn()
        for prompt, listener in zip(PROMPTS, listeners, strict=False):
            assert listener.answer() == right_answer(prompt, 8)
            assert listener.cached == 512
        assert bench.engine.cache.parts.pool.claimed(Holder.READING) == 0
        bench.close()

    def test_what_is_larger_than_memory_is_read_alone(self) -> None:
        bench, disk = restarted(*PROMPTS, hot_bytes=0)
        disk.stall()
        listeners = [bench.accept(prompt)[1] for prompt in PROMPTS[:3]]
        bench.work.turn()
        assert len(bench.work._loading._memory._reads) == 2
        disk.release()
        bench.settle()
        assert [listener.cached for listener in listeners] == [512] * 3
        bench.close()

    def test_what_several_begin_with_is_read_once(self) -> None:
        bench, disk = restarted(LONG)
        disk.stall()
        listeners = [bench.accept(prompt)[1] for prompt in (LONG, LONG, LONG[:600])]
        bench.work.turn()
        disk.release()
        bench.settle()
        assert [listener.cached for listener in listeners] == [699, 699, 599]
        assert len(reads_of(bench)) == 3
        bench.close()

    def test_who_leaves_makes_room_for_the_next(self) -> None:
        bench, disk = restarted(*PROMPTS, hot_bytes=2 * BLOCK_BYTES)
        disk.stall()
        first, _ = bench.accept(PROMPTS[0])
        _, second = bench.accept(PROMPTS[1])
        bench.work.turn()
        disk.wait_stopped(2)
        bench.work.cancel(first.sequence.id)
        disk.release()
        bench.settle()
        assert second.cached == 512
        bench.close()

    def test_damage_costs_every_one_that_waits_for_it_what_follows(self) -> None:
        bench, disk = restarted(LONG)
        (part,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[1].ids
        bench.engine.blocks.damage(bench.engine.executor.namespace, part)
        disk.stall()
        listeners = [bench.accept(LONG)[1] for _ in range(3)]
        bench.work.turn()
        disk.release()
        bench.settle()
        assert [listener.answer() for listener in listeners] == [right_answer(LONG, 8)] * 3
        assert listeners[0].cached == 256
        bench.close()


class TestHungDisk:
    def late(self, bench: Bench, disk: FaultyBlocks, prompt: Tokens, stuck: int = 0) -> float:
        """Answer a prompt while the disk hangs, which takes so many threads along.

        Returns for how many seconds it was waited for.
        """
        started = bench.engine.clock.now
        _, listener = bench.accept(prompt)
        bench.work.turn()
        disk.wait_stopped(stuck)
        while not listener.ends:
            if bench.work.idle:
                bench.engine.clock.now += bench.work.patience() or 0
            bench.work.turn()
        assert listener.answer() == right_answer(prompt, 8)
        return bench.engine.clock.now - started

    def test_it_is_waited_for_two_seconds_and_a_little_more_for_more_tokens(self) -> None:
        bench, disk = restarted(LONG)
        disk.stall()
        assert self.late(bench, disk, LONG, stuck=2) == pytest.approx(2.07, abs=0.01)
        disk.release()
        bench.close()

    def test_a_part_that_hangs_is_waited_for_once_and_comes_back(self) -> None:
        bench, disk = restarted(LONG)
        stuck: PartId
        (stuck,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[1].ids
        disk.stall(stuck)
        _, listener = bench.accept(LONG)
        bench.work.turn()
        for _ in range(2):
            bench.arrive()
        bench.engine.clock.now += 3
        bench.settle()
        assert listener.cached == 256
        assert self.late(bench, disk, LONG) == 0
        disk.release()
        bench.arrive()
        assert bench.work._loading._memory._given_up == set()
        assert bench.answer((*LONG, 5)).cached == 700
        bench.close()

    def test_when_all_threads_hang_nobody_waits_any_more_until_the_disk_is_back(self) -> None:
        bench, disk = restarted(*PROMPTS, hot_bytes=0)
        disk.stall()
        waited = [self.late(bench, disk, prompt, stuck=2) for prompt in PROMPTS[:2]]
        waited += [self.late(bench, disk, prompt) for prompt in PROMPTS[2:]]
        assert waited == pytest.approx([2.05, 2.05, 0, 0, 0, 0, 0, 0], abs=0.01)
        assert bench.parts.reader.hangs
        disk.release()
        for _ in range(4):
            bench.arrive()
        assert not bench.parts.reader.hangs
        for prompt in PROMPTS[:4]:
            assert bench.answer(prompt).cached == 512
        assert bench.engine.cache.parts.pool.claimed(Holder.READING) == 0
        bench.close()

    def test_requests_that_end_early_do_not_hide_that_it_hangs(self) -> None:
        bench, disk = restarted(*PROMPTS)
        disk.stall()
        job, _ = bench.accept(PROMPTS[0])
        bench.work.turn()
        disk.wait_stopped(2)
        bench.work.cancel(job.sequence.id)
        assert self.late(bench, disk, PROMPTS[2]) == pytest.approx(2.05, abs=0.01)
        # The threads that the cancelled ones left behind are taken for lost.
        assert self.late(bench, disk, PROMPTS[3], stuck=2) == pytest.approx(2.05, abs=0.01)
        assert self.late(bench, disk, PROMPTS[4]) == 0
        disk.release()
        bench.close()

    def test_a_slow_disk_is_not_given_up_while_it_delivers(self) -> None:
        bench, disk = restarted(LONG)
        parts = [part for use in bench.engine.cache.match(LONG, DEFAULT_TENANT) for part in use.ids]
        disk.stall()
        _, listener = bench.accept(LONG)
        bench.work.turn()
        for part in parts:
            bench.engine.clock.now += 1.9
            bench.work.turn()
            assert not listener.ends
            bench.work.arrived(part, bench.engine.blocks.get(NAMESPACE, part))
        disk.release()
        bench.settle()
        assert listener.cached == 699
        bench.close()

    def test_but_not_for_ever(self) -> None:
        bench, disk = restarted(LONG, read_timeout_s=3.0)
        parts = [part for use in bench.engine.cache.match(LONG, DEFAULT_TENANT) for part in use.ids]
        disk.stall()
        _, listener = bench.accept(LONG)
        bench.work.turn()
        for part in parts[:2]:
            bench.engine.clock.now += 1.6
            bench.work.arrived(part, bench.engine.blocks.get(NAMESPACE, part))
            bench.work.turn()
        disk.release()
        bench.settle()
        assert listener.answer() == right_answer(LONG, 8)
        assert listener.cached == 512
        assert bench.names() == ["read_timed_out"]
        bench.close()


@pytest.mark.parametrize("model", SPECS)
def test_whatever_the_disk_does_every_request_is_answered_right(model: str) -> None:
    bench, disk = restarted(*PROMPTS[:4], spec=SPECS[model], hot_bytes=0)
    disk.share = 0.3
    for number in range(10):
        listeners = [bench.accept((*PROMPTS[(number + n) % 4], n))[1] for n in range(3)]
        bench.settle()
        for n, listener in enumerate(listeners):
            assert listener.answer() == right_answer((*PROMPTS[(number + n) % 4], n), 8)
    assert {"unreadable", "damaged", "absent"} <= set(disk.faults)
    assert bench.engine.cache.parts.pool.claimed(Holder.READING) == 0
    assert bench.work._loading._memory._reads == {}
    disk.share = 0.0
    bench.close()
