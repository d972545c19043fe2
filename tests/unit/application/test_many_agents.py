"""What sequences in work mean for each other: memory, turns, common beginnings, failures."""

from collections.abc import Callable

import pytest
from tests.fakes.faulty_executor import FaultyExecutor
from tests.fakes.scripted_executor import SPECS, ScriptedExecutor
from tests.fakes.small_engine import Listener, SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens

from semantic.application.engine_job import Job, JobEnded, JobFailed
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.block import PartKind
from semantic.domain.chat import FinishReason
from semantic.domain.errors import EngineError, InvalidRequestError, PoolExhaustedError
from semantic.domain.ids import AgentKey, SequenceId
from semantic.domain.sequence import SequenceState
from semantic.domain.step_plan import StepPlan, StepResult

MODELS = ["uniform", "long window", "hybrid", "everything"]


def prompt_of(length: int, seed: int = 0) -> Tokens:
    return tuple((seed * 31 + number * 7) % 95 for number in range(length))


def computed(bench: Bench) -> int:
    """Tokens of prefill that the engine was given."""
    plans = bench.engine.executor.plans
    return sum(len(plan.prefill.tokens) for plan in plans if plan.prefill)


class TestMemory:
    """One byte of batch for a token of a row, beside the bytes of blocks."""

    def bench(self, kv_bytes: int, hot_bytes: int = 1 << 20, model: str = "uniform") -> Bench:
        executor = ScriptedExecutor(SPECS[model], bytes_per_token=100)
        return Bench(SmallEngine(executor=executor, kv_bytes=kv_bytes, hot_bytes=hot_bytes))

    @pytest.mark.parametrize("model", MODELS)
    def test_who_came_last_gives_way_and_goes_on_later(self, model: str) -> None:
        bench = self.bench(90_000, hot_bytes=0, model=model)
        jobs = [bench.accept(prompt_of(100, seed), max_tokens=600) for seed in range(2)]
        bench.settle()
        for seed, (_, listener) in enumerate(jobs):
            assert listener.answer() == right_answer(prompt_of(100, seed), 600)
        assert "sequence_preempted" in bench.names()
        # Its work was kept: what was computed was not computed again, but for the last token.
        assert computed(bench) < 100 + 100 + 10 * bench.names().count("sequence_preempted")
        bench.close()

    def test_the_oldest_never_gives_way(self) -> None:
        bench = self.bench(90_000)
        first, _ = bench.accept(prompt_of(100, 0), max_tokens=600)
        bench.accept(prompt_of(100, 1), max_tokens=600)
        bench.accept(prompt_of(100, 2), max_tokens=600)
        while not bench.work.idle:
            bench.work.turn()
            assert not first.sequence.interrupted
        bench.settle()
        bench.close()

    def test_who_does_not_fit_waits_for_those_who_do(self) -> None:
        bench = self.bench(60_000)
        _, first = bench.accept(prompt_of(300), max_tokens=3)
        large, second = bench.accept(prompt_of(300, 1), max_tokens=3)
        bench.work.turn()
        assert large.sequence.state is SequenceState.WAITING
        bench.settle()
        assert first.answer() == right_answer(prompt_of(300), 3)
        assert second.answer() == right_answer(prompt_of(300, 1), 3)
        bench.close()

    def test_small_ones_pass_one_that_does_not_fit_but_not_for_ever(self) -> None:
        bench = self.bench(60_000)
        bench.accept(prompt_of(300), max_tokens=100)
        large, _ = bench.accept(prompt_of(300, 1), max_tokens=3)
        small = [bench.accept((number, 2), max_tokens=2)[0] for number in range(20)]
        began: list[Job] = []
        while not bench.work.idle:
            bench.work.turn()
            began += [job for job in (large, *small) if job.started and job not in began]
        bench.settle()
        assert 1 <= began.index(large) <= 8
        assert len(began) == 21
        bench.close()

    def test_what_never_fits_is_refused_rather_than_waiting_for_ever(self) -> None:
        bench = self.bench(10_000)
        _, listener = bench.accept(prompt_of(300))
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobFailed)
        assert isinstance(end.error, PoolExhaustedError)
        bench.answer((1, 2))
        bench.close()

    def test_the_budget_is_never_passed(self) -> None:
        bench = self.bench(80_000)
        for seed in range(12):
            bench.accept(prompt_of(40 + 30 * seed, seed % 3), max_tokens=30 * seed + 1)
        pool = bench.parts.cache.parts.pool
        while not bench.work.idle:
            bench.work.turn()
            pool.check()
            assert bench.engine.executor.held_bytes() <= pool.held
        bench.settle()
        bench.close()
        assert pool.held == 0

    def test_a_prompt_whose_blocks_do_not_fit_beside_it_is_computed_in_part(self) -> None:
        bench = self.bench(1 << 20)
        bench.answer(prompt_of(700))
        block = SPECS["uniform"].nbytes(PartKind.FULL)
        bench = bench.restart(kv_bytes=100 * 708 + block + block * 3 // 2)
        listener = bench.answer(prompt_of(700))
        assert 0 < listener.cached < 699
        bench.close()

    def test_a_block_that_cannot_be_taken_in_leaves_no_memory_held(self) -> None:
        bench = self.bench(1 << 30)
        bench.answer(prompt_of(700))
        bench.close()
        executor = FaultyExecutor(failing={"import": 1})
        stores = bench.engine
        broken = Bench(SmallEngine(executor=executor, blocks=stores.blocks, agents=stores.agents))
        _, listener = broken.accept(prompt_of(700))
        broken.settle()
        assert isinstance(listener.last(), JobFailed)
        while broken.parts.cache.parts.pool.held:  # what was on its way comes yet
            broken.arrive()
        broken.answer(prompt_of(700))
        broken.close()

    def test_who_needs_memory_that_a_read_for_nobody_holds_waits_for_it(self) -> None:
        bench = self.bench(1 << 30)
        bench.answer(prompt_of(700))
        block = SPECS["uniform"].nbytes(PartKind.FULL)
        bench = bench.restart(kv_bytes=100 * 708 + 3 * block)
        bench.engine.blocks.reading.shut()
        loading, _ = bench.accept(prompt_of(700))
        bench.work.turn()
        _, listener = bench.accept(prompt_of(700, 1))
        bench.work.cancel(loading.sequence.id)
        bench.work.turn()
        bench.engine.blocks.reading.open()
        bench.settle()
        assert listener.answer() == right_answer(prompt_of(700, 1), 8)
        bench.close()

    def test_a_prompt_keeps_the_blocks_that_it_is_about_to_begin_with(self) -> None:
        block = SPECS["uniform"].nbytes(PartKind.FULL)
        bench = self.bench(100 * 708 + 8 * block, hot_bytes=6 * block)
        bench.engine.writes.close(1)
        bench.answer(prompt_of(700))
        bench.answer(prompt_of(700, 1))
        cached = bench.answer(prompt_of(700)).cached
        assert cached >= 512
        bench.close()


class TestTurns:
    def agents(self, bench: Bench, *named: tuple[str, Tokens]) -> list[tuple[Job, Listener]]:
        return [bench.accept(prompt, agent=AgentKey(name)) for name, prompt in named]

    def test_a_short_prompt_does_not_wait_for_a_long_one(self) -> None:
        bench = Bench()
        (long, _), (short, _) = self.agents(bench, ("a", prompt_of(5000)), ("b", (1, 2, 3)))
        for _ in range(3):
            bench.work.turn()
        assert short.sequence.state is SequenceState.DECODE
        assert long.sequence.state is SequenceState.PREFILL
        bench.settle()
        bench.close()

    def test_an_agent_with_many_requests_gets_no_more_than_one_with_one(self) -> None:
        bench = Bench()
        prompts = [(chr(97), prompt_of(3000, seed)) for seed in range(3)]
        jobs = self.agents(bench, *prompts, ("b", prompt_of(3000, 9)))
        while jobs[-1][0].sequence.state is not SequenceState.DECODE:
            bench.work.turn()
        of_others = sum(job.sequence.num_computed for job, _ in jobs[:3])
        assert of_others <= 3000 + 512
        bench.settle()
        bench.close()

    def test_requests_of_one_agent_run_side_by_side(self) -> None:
        bench = Bench()
        jobs = self.agents(bench, ("a", (1, 2)), ("a", (3, 4)))
        for _ in range(4):
            bench.work.turn()
        assert all(job.sequence.state is SequenceState.DECODE for job, _ in jobs)
        bench.settle()
        bench.close()

    def test_who_waits_is_served_by_fair_turns_too(self) -> None:
        bench = Bench(SmallEngine(limits=SchedulerLimits(1, 512, 256)))
        jobs = self.agents(
            bench, ("a", prompt_of(600)), ("a", prompt_of(600, 1)), ("b", (1, 2)), ("a", (5, 6))
        )
        ended: list[str] = []
        while not bench.work.idle:
            bench.work.turn()
            ended += [
                name
                for name, (_, listener) in zip("1234", jobs, strict=True)
                if listener.ends and name not in ended
            ]
        assert ended == ["1", "3", "2", "4"]
        bench.settle()
        bench.close()


@pytest.mark.parametrize("model", MODELS)
class TestCommonBeginning:
    def bench(self, model: str) -> Bench:
        return Bench(SmallEngine(executor=ScriptedExecutor(SPECS[model])))

    def test_it_is_computed_once(self, model: str) -> None:
        bench = self.bench(model)
        stem = prompt_of(1536)
        jobs = [bench.accept((*stem, 90 + seed, 3))[1] for seed in range(4)]
        bench.settle()
        for seed, listener in enumerate(jobs):
            assert listener.answer() == right_answer((*stem, 90 + seed, 3), 8)
        assert computed(bench) == 1536 + 4 * 2
        assert [listener.cached for listener in jobs] == [0, 1536, 1536, 1536]
        bench.close()

    def test_equal_prompts_are_computed_once_but_for_the_last_block(self, model: str) -> None:
        bench = self.bench(model)
        jobs = [bench.accept(prompt_of(1000))[1] for _ in range(3)]
        bench.settle()
        assert [listener.answer() for listener in jobs] == [right_answer(prompt_of(1000), 8)] * 3
        assert computed(bench) <= 1000 + 2 * 256
        bench.close()

    @pytest.mark.parametrize("how", ["cancelled", "failed"])
    def test_if_who_leads_goes_another_takes_over(self, model: str, how: str) -> None:
        bench = self.bench(model)
        stem = prompt_of(1536)
        leader, _ = bench.accept((*stem, 1))
        others = [bench.accept((*stem, 90 + seed))[1] for seed in range(3)]
        bench.work.turn()
        if how == "cancelled":
            bench.work.cancel(leader.sequence.id)
        else:
            leader.emit = raising  # its next event fails it, and nobody else
        bench.settle()
        for seed, listener in enumerate(others):
            assert listener.answer() == right_answer((*stem, 90 + seed), 8)
        # What was computed before it went is not computed again, but where a state is needed that
        # only an end in order leaves behind.
        lost = 1024 if how == "failed" and SPECS[model].resume_rule.recurrent else 0
        assert computed(bench) <= 1536 + lost + 2 * 256 + 4
        bench.close()

    def test_other_tenants_compute_their_own(self, model: str) -> None:
        bench = self.bench(model)
        stem = prompt_of(600)
        listeners = [bench.accept(stem, tenant=tenant)[1] for tenant in ("one", "two")]
        bench.settle()
        assert [listener.cached for listener in listeners] == [0, 0]
        assert computed(bench) == 1200
        bench.close()


def raising(_event: object) -> None:
    raise RuntimeError("nobody listens")


class Poisoned(ScriptedExecutor):
    """Fails each step in which a certain sequence has a part, `times` times."""

    poison: Callable[[StepPlan], SequenceId | None]
    batches: Callable[[], tuple[tuple[SequenceId, ...], ...]]
    times: int = 1000
    cause: Exception | None = None
    guilty_alone: bool = False

    def run(self, plan: StepPlan) -> StepResult:
        guilty = self.poison(plan)
        if guilty is not None and self.times:
            self.times -= 1
            self._broken = True
            (batch,) = (one for one in self.batches() if guilty in one)
            suspects = tuple(key for key in batch if key in plan.decode) or (guilty,)
            suspects = (guilty,) if self.guilty_alone else suspects
            raise EngineError("the script says so", suspects=suspects) from self.cause
        return super().run(plan)


def decoding_of(number: int) -> Callable[[StepPlan], SequenceId | None]:
    key = SequenceId(number)
    return lambda plan: key if key in plan.decode else None


def prefill_of(number: int) -> Callable[[StepPlan], SequenceId | None]:
    key = SequenceId(number)
    return lambda plan: key if plan.prefill and plan.prefill.sequence == key else None


class TestPoison:
    def bench(self, poison: Callable[[StepPlan], SequenceId | None], times: int) -> Bench:
        executor = Poisoned()
        executor.poison, executor.times = poison, times
        bench = Bench(SmallEngine(executor=executor))
        executor.batches = lambda: bench.parts.scheduler.batches
        return bench

    @pytest.mark.parametrize("poison", [prefill_of(2), decoding_of(2)])
    def test_only_the_guilty_ends_and_after_one_more_try(
        self, poison: Callable[[StepPlan], SequenceId | None]
    ) -> None:
        bench = self.bench(poison, 1000)
        listeners = [bench.accept(prompt_of(300, seed))[1] for seed in range(3)]
        bench.settle()
        end = listeners[1].last()
        assert isinstance(end, JobFailed)
        assert isinstance(end.error, EngineError)
        assert listeners[0].answer() == right_answer(prompt_of(300, 0), 8)
        assert listeners[2].answer() == right_answer(prompt_of(300, 2), 8)
        assert bench.names().count("step_failed") == 2
        bench.close()

    def test_what_was_asked_for_is_not_tried_again(self) -> None:
        bench = self.bench(decoding_of(2), 1000)
        executor = bench.parts.executor
        assert isinstance(executor, Poisoned)
        executor.cause = InvalidRequestError("too much", field="tools")
        executor.guilty_alone = True
        listeners = [bench.accept(prompt_of(300, seed))[1] for seed in range(3)]
        bench.settle()
        end = listeners[1].last()
        assert isinstance(end, JobFailed)
        assert end.error is executor.cause
        assert listeners[0].answer() == right_answer(prompt_of(300, 0), 8)
        assert listeners[2].answer() == right_answer(prompt_of(300, 2), 8)
        assert bench.names().count("step_failed") == 1
        bench.close()

    def test_what_fails_once_is_nobodys_end(self) -> None:
        bench = self.bench(decoding_of(2), 1)
        listeners = [bench.accept(prompt_of(300, seed))[1] for seed in range(3)]
        bench.settle()
        for seed, listener in enumerate(listeners):
            assert listener.answer() == right_answer(prompt_of(300, seed), 8)
        bench.close()

    def test_an_engine_that_always_fails_ends_every_request(self) -> None:
        bench = self.bench(lambda plan: plan.prefill.sequence if plan.prefill else None, 1000)
        listeners = [bench.accept(prompt_of(300, seed))[1] for seed in range(6)]
        bench.settle()
        assert all(isinstance(listener.last(), JobFailed) for listener in listeners)
        bench.close()

    def test_work_that_was_sealed_is_not_done_again(self) -> None:
        bench = self.bench(decoding_of(1), 1)
        _, listener = bench.accept(prompt_of(1000))
        bench.settle()
        assert listener.answer() == right_answer(prompt_of(1000), 8)
        assert computed(bench) <= 1000 + 256 + 8
        bench.close()


def test_a_cancelled_prompt_is_resumed_where_it_stopped() -> None:
    bench = Bench()
    job, listener = bench.accept(prompt_of(5000))
    for _ in range(4):
        bench.work.turn()
    done = job.sequence.num_computed
    assert done >= 2000
    bench.work.cancel(job.sequence.id)
    end = listener.last()
    assert isinstance(end, JobEnded)
    assert end.reason is FinishReason.CANCELLED
    assert bench.answer(prompt_of(5000)).cached == done
    bench.close()
