"""The engine's thread from outside, through real threads."""

import queue
import random
import threading
from collections.abc import Callable

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.faulty_executor import FaultyExecutor
from tests.fakes.observed_stores import PATIENCE_S, Gate
from tests.fakes.scripted_executor import NAMESPACE, SPECS, ScriptedExecutor, hashed_choice
from tests.fakes.small_engine import Listener, SmallEngine, make_job, right_answer

from semantic.application.engine_job import Job, JobEnded, JobFailed, JobStarted, JobText
from semantic.application.engine_loop import EngineLoop
from semantic.application.engine_work import EngineParts
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.block import PartKind
from semantic.domain.block_hash import root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.chat import FinishReason
from semantic.domain.errors import EngineError, ModelLoadError, PoolExhaustedError
from semantic.domain.ids import DEFAULT_TENANT, SequenceId, TokenId
from semantic.domain.lineage import Lineage

Tokens = tuple[TokenId, ...]
MINE = tenant_keys(DEFAULT_TENANT, SECRET)
NOTHING = Lineage([], root_key(NAMESPACE, SECRET), MINE, BLOCK_SIZE)
LONG: Tokens = tuple(number * 7 % 95 for number in range(700))


def submitted(
    loop: EngineLoop, number: int, prompt: Tokens, max_tokens: int = 8
) -> tuple[Job, Listener]:
    job, listener = make_job(number, prompt, max_tokens)
    loop.submit(job)
    return job, listener


def held_up(gate: Gate) -> Callable[[Tokens], TokenId]:
    """A choice of tokens that passes the gate each time: it holds up the engine's thread."""

    def choose(tokens: Tokens) -> TokenId:
        gate.enter()
        return hashed_choice(tokens)

    return choose


class TestLife:
    def test_a_job_is_answered(self) -> None:
        engine = SmallEngine()
        with engine.running() as loop:
            _, listener = submitted(loop, 1, LONG)
            assert listener.answer() == right_answer(LONG, 8)
            assert loop.alive
        assert not loop.alive

    def test_the_engine_is_built_and_used_on_its_own_thread(self) -> None:
        threads: list[str] = []

        def choose(tokens: Tokens) -> TokenId:
            threads.append(threading.current_thread().name)
            return hashed_choice(tokens)

        engine = SmallEngine(ScriptedExecutor(choose=choose))

        def build() -> EngineParts:
            threads.append(threading.current_thread().name)
            return engine.parts()

        engine.loop.start(build)
        submitted(engine.loop, 1, (1,), 2)[1].answer()
        engine.close()
        assert set(threads) == {"engine"}

    def test_after_a_restart_the_answer_goes_on_where_it_was(self) -> None:
        engine = SmallEngine()
        with engine.running() as loop:
            first = submitted(loop, 1, LONG)[1].answer()
        engine = engine.restarted()
        with engine.running() as loop:
            _, listener = submitted(loop, 1, (*LONG, *first))
            assert first + listener.answer() == right_answer(LONG, 16)
            assert listener.cached == 707

    def test_blocks_on_their_way_to_disk_are_found(self) -> None:
        engine = SmallEngine(hot_bytes=0)
        engine.blocks.writing.shut()
        with engine.running() as loop:
            submitted(loop, 1, LONG)[1].answer()
            _, listener = submitted(loop, 2, LONG)
            assert listener.answer() == right_answer(LONG, 8)
            assert listener.cached == 699
            assert "get" not in {action for action, _ in engine.blocks.journal.entries}
            engine.blocks.writing.open()

    @pytest.mark.parametrize("error", [ModelLoadError("no such file"), SystemExit(3)])
    def test_start_raises_what_build_raises(self, error: BaseException) -> None:
        engine = SmallEngine()

        def build() -> EngineParts:
            raise error

        with pytest.raises(type(error)):
            engine.loop.start(build)
        assert not engine.loop.alive
        with pytest.raises(EngineError):
            submitted(engine.loop, 1, (1,))
        assert engine.loop.stop(PATIENCE_S)
        engine.close()

    def test_before_start_and_after_stop_nothing_is_accepted(self) -> None:
        engine = SmallEngine()
        job, listener = make_job(1, (1,))
        assert engine.loop.stop(0)
        assert not engine.loop.alive
        with pytest.raises(EngineError):
            engine.loop.submit(job)
        with engine.running():
            pass
        with pytest.raises(EngineError):
            engine.loop.submit(job)
        engine.loop.cancel(job.sequence.id)
        assert listener.events == []

    def test_stopping_ends_all_jobs_and_keeps_what_they_computed(self) -> None:
        gate = Gate()
        executor = ScriptedExecutor(choose=held_up(gate))
        engine = SmallEngine(executor, limits=SchedulerLimits(1, 512, 256))
        engine.loop.start(engine.parts)
        _, running = submitted(engine.loop, 1, LONG, 5000)
        _, waiting = submitted(engine.loop, 2, (1,))
        running.wait(JobText)
        assert engine.loop.stop(PATIENCE_S)
        engine.close()
        for listener in (running, waiting):
            listener.check()
            end = listener.ends[0]
            assert isinstance(end, JobEnded)
            assert end.reason is FinishReason.CANCELLED
        assert isinstance(waiting.events[0], JobStarted)
        end = running.ends[0]
        assert isinstance(end, JobEnded)
        again = engine.restarted()
        again.executor.choose = hashed_choice
        with again.running() as loop:
            _, listener = submitted(loop, 1, (*LONG, *end.generated))
            assert end.generated + listener.answer() == right_answer(LONG, len(end.generated) + 8)
            assert listener.cached == 700 + len(end.generated) - 1

    def test_it_tells_if_stopping_takes_too_long(self) -> None:
        gate = Gate()
        engine = SmallEngine(ScriptedExecutor(choose=held_up(gate)))
        gate.shut()
        engine.loop.start(engine.parts)
        _, listener = submitted(engine.loop, 1, (1,))
        gate.wait_reached()
        assert not engine.loop.stop(0)
        gate.open()
        engine.close()
        listener.check()

    def test_what_is_submitted_while_it_stops_ends_or_is_refused(self) -> None:
        gate = Gate()
        engine = SmallEngine(ScriptedExecutor(choose=held_up(gate)))
        gate.shut()
        engine.loop.start(engine.parts)
        listeners = [submitted(engine.loop, 1, (1,))[1]]
        gate.wait_reached()
        assert not engine.loop.stop(0)
        listeners.append(submitted(engine.loop, 2, (1,))[1])
        gate.open()
        engine.close()
        for listener in listeners:
            listener.check()


class TestRoom:
    def test_too_many_unfinished_jobs_are_refused_until_one_ends(self) -> None:
        gate = Gate()
        engine = SmallEngine(ScriptedExecutor(choose=held_up(gate)), max_jobs=2)
        gate.shut()
        with engine.running() as loop:
            _, first = submitted(loop, 1, (1,), 1)
            second, _ = submitted(loop, 2, (2,), 1)
            with pytest.raises(PoolExhaustedError, match="2 requests"):
                submitted(loop, 3, (3,))
            loop.cancel(second.sequence.id)
            gate.open()
            first.answer()
            _, third = submitted(loop, 3, (3,))
            assert third.answer() == right_answer((3,), 8)


class TestReading:
    def restarted(self, read_timeout_s: float) -> SmallEngine:
        engine = SmallEngine()
        with engine.running() as loop:
            submitted(loop, 1, LONG)[1].answer()
        engine = engine.restarted()
        engine.read_timeout_s = read_timeout_s
        return engine

    def test_a_disk_that_hangs_costs_a_recompute(self) -> None:
        engine = self.restarted(read_timeout_s=0.01)
        engine.blocks.reading.shut()
        with engine.running() as loop:
            _, listener = submitted(loop, 1, LONG)
            engine.blocks.reading.wait_reached()
            assert listener.events == []
            engine.clock.now += 1
            assert listener.answer() == right_answer(LONG, 8)
            assert listener.cached == 0
            engine.blocks.reading.open()
        assert "read_timed_out" in engine.names("warning")

    def test_a_job_can_be_cancelled_while_the_disk_hangs(self) -> None:
        engine = self.restarted(read_timeout_s=1000)
        engine.blocks.reading.shut()
        with engine.running() as loop:
            job, listener = submitted(loop, 1, LONG)
            engine.blocks.reading.wait_reached()
            loop.cancel(job.sequence.id)
            end = listener.last()
            assert isinstance(end, JobEnded)
            assert end.reason is FinishReason.CANCELLED
            engine.blocks.reading.open()
            assert submitted(loop, 2, LONG)[1].answer() == right_answer(LONG, 8)
        listener.check()


class TestDeath:
    """An error where none can be dealt with."""

    def dying(self, engine: SmallEngine, error: BaseException) -> Callable[[], EngineParts]:
        """Parts whose scheduler fails once a gate has been opened."""
        self.gate = Gate()
        self.gate.shut()

        def build() -> EngineParts:
            parts = engine.parts()
            plan = parts.scheduler.plan

            def fail(spent_s: float = 0.0) -> object:
                if engine.executor.plans:
                    self.gate.enter()
                    raise error
                return plan(spent_s)

            parts.scheduler.plan = fail  # type: ignore[method-assign, assignment]
            return parts

        return build

    @pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1)])
    def test_all_jobs_end_and_no_more_are_accepted(self, error: BaseException) -> None:
        engine = SmallEngine(limits=SchedulerLimits(1, 512, 256))
        engine.loop.start(self.dying(engine, error))
        listeners = [submitted(engine.loop, number, LONG)[1] for number in range(3)]
        self.gate.wait_reached()
        listeners.append(submitted(engine.loop, 3, LONG)[1])
        engine.loop.cancel(SequenceId(0))
        self.gate.open()
        for listener in listeners:
            end = listener.last()
            assert isinstance(end, JobFailed)
            assert isinstance(end.error, EngineError)
        engine.close()
        for listener in listeners:
            listener.check()
        assert not engine.loop.alive
        with pytest.raises(EngineError):
            submitted(engine.loop, 4, (1,))
        assert "engine_died" in engine.names("error")
        # What it holds then may be wrong: only what was sealed before is kept.
        kinds = [header.kind for header in engine.blocks.headers(NAMESPACE)]
        assert kinds == [PartKind.FULL] * 2

    def test_an_engine_that_cannot_be_reset_dies(self) -> None:
        engine = SmallEngine(FaultyExecutor(fail_on_run=2, failing={"reset": 1}))
        engine.loop.start(engine.parts)
        _, listener = submitted(engine.loop, 1, (1,))
        assert isinstance(listener.last(), JobFailed)
        assert engine.loop.stop(PATIENCE_S)
        assert engine.writes.close(PATIENCE_S)
        listener.check()


class TestLiveness:
    """An engine that works, hangs, or is gone."""

    def test_starting_loading_and_stopping_are_no_failures(self) -> None:
        engine = SmallEngine(step_timeout_s=5)
        seen = [engine.loop.failure]

        def build() -> EngineParts:
            engine.clock.now += 100  # a large model
            seen.append(engine.loop.failure)
            return engine.parts()

        engine.loop.start(build)
        seen.append(engine.loop.failure)
        engine.clock.now += 100  # nothing to do
        seen.append(engine.loop.failure)
        engine.close()
        engine.clock.now += 100
        assert [*seen, engine.loop.failure] == [None] * 5
        assert engine.loop.ended

    def test_one_that_hangs_is_told_refuses_and_may_come_back(self) -> None:
        gate = Gate()
        engine = SmallEngine(ScriptedExecutor(choose=held_up(gate)), step_timeout_s=5)
        with engine.running() as loop:
            gate.shut()
            _, listener = submitted(loop, 1, (1,))
            gate.wait_reached()
            engine.clock.now += 5
            assert loop.alive
            engine.clock.now += 1
            assert loop.failure is not None
            assert "5 s" in loop.failure
            assert not loop.alive
            with pytest.raises(EngineError, match="5 s"):
                submitted(loop, 2, (2,))
            with pytest.raises(EngineError, match="5 s"):
                loop.drop(NOTHING, NOTHING, print)
            gate.open()
            assert listener.answer() == right_answer((1,), 8)
            assert loop.alive
            assert submitted(loop, 2, (2,))[1].answer() == right_answer((2,), 8)

    def test_many_short_steps_are_no_long_one(self) -> None:
        engine = SmallEngine(step_timeout_s=5)

        def choose(tokens: Tokens) -> TokenId:
            engine.clock.now += 4
            return hashed_choice(tokens)

        engine.executor.choose = choose
        with engine.running() as loop:
            listener = submitted(loop, 1, (1,), 20)[1]
            assert listener.answer() == right_answer((1,), 20)
            assert loop.failure is None

    def test_one_that_hangs_while_it_stops_is_told(self) -> None:
        gate = Gate()
        engine = SmallEngine(ScriptedExecutor(choose=held_up(gate)), step_timeout_s=5)
        gate.shut()
        engine.loop.start(engine.parts)
        submitted(engine.loop, 1, (1,))
        gate.wait_reached()
        assert not engine.loop.stop(0)
        assert engine.loop.failure is None
        engine.clock.now += 6
        assert engine.loop.failure is not None
        gate.open()
        engine.close()
        assert engine.loop.failure is None

    def test_one_that_died_stays_dead(self) -> None:
        engine = SmallEngine(FaultyExecutor(fail_on_run=2, failing={"reset": 1}))
        engine.loop.start(engine.parts)
        submitted(engine.loop, 1, (1,))[1].last()
        assert engine.loop.stop(PATIENCE_S)
        assert engine.loop.failure == "the engine has died"
        with pytest.raises(EngineError, match="has died"):
            submitted(engine.loop, 2, (2,))
        assert engine.writes.close(PATIENCE_S)

    def test_one_that_fails_to_say_goodbye_has_died_and_ended(self) -> None:
        engine = SmallEngine()

        def build() -> EngineParts:
            parts = engine.parts()

            def fail() -> None:
                raise SystemExit("no time")

            parts.reader.close = fail  # type: ignore[method-assign]
            return parts

        engine.loop.start(build)
        assert engine.loop.stop(PATIENCE_S)
        assert engine.loop.failure == "the engine has died"
        assert engine.names("error") == ["engine_died"]
        assert engine.writes.close(PATIENCE_S)


class Traffic:
    """Requests from many threads, some of which are cancelled, over a store that misbehaves."""

    THREADS = 6
    EACH = 12

    def __init__(self, model: str, seed: int) -> None:
        numbers = random.Random(seed)  # noqa: S311 - reproducible traffic, no secrets
        self.seed = seed
        self.engine = SmallEngine(
            executor=ScriptedExecutor(
                SPECS[model], fail_on_run=numbers.choice([None, 40]), trusting=True
            ),
            hot_bytes=numbers.choice([0, 5000, 1 << 20]),
            queue_bytes=numbers.choice([0, 6000, 1 << 20]),
            limits=SchedulerLimits(
                numbers.choice([1, 3]), numbers.choice([100, 512]), numbers.choice([50, 256])
            ),
            state_interval=numbers.choice([100, 256]),
            resume_points=numbers.choice([2, 8]),
            max_jobs=8,
        )
        self.stems = [tuple(numbers.choices(range(95), k=300)) for _ in range(3)]
        self.outcomes: queue.SimpleQueue[tuple[Job, Listener]] = queue.SimpleQueue()

    def play(self) -> None:
        threads = [
            threading.Thread(target=self.client, args=(number,)) for number in range(self.THREADS)
        ]
        self.engine.loop.start(self.engine.parts)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.engine.close()

    def client(self, number: int) -> None:
        numbers = random.Random(f"{self.seed} {number}")  # noqa: S311 - as above
        for count in range(self.EACH):
            stem = numbers.choice(self.stems)[: numbers.choice([1, 255, 256, 300])]
            prompt = (*stem, *numbers.choices(range(95), k=numbers.choice([0, 1, 40])))
            system_end = numbers.choice([0, 200, 256])
            job, listener = make_job(
                number * 1000 + count, prompt, numbers.randint(1, 20), system_end=system_end
            )
            try:
                self.engine.loop.submit(job)
            except PoolExhaustedError:
                continue
            self.outcomes.put((job, listener))
            match numbers.randrange(5):
                case 0:
                    self.engine.loop.cancel(job.sequence.id)
                case 1:
                    listener.wait(JobStarted, JobFailed)
                    self.engine.loop.cancel(job.sequence.id)
                case 2:
                    for header in list(self.engine.blocks.headers(NAMESPACE))[::3]:
                        self.engine.blocks.damage(NAMESPACE, header.id)
                case _:
                    listener.last()

    def check(self) -> None:
        failed = 0
        while not self.outcomes.empty():
            job, listener = self.outcomes.get()
            listener.check()
            prompt, end = job.sequence.prompt, listener.ends[0]
            if isinstance(end, JobFailed):
                failed += 1
                continue
            assert end.generated == right_answer(prompt, len(end.generated))
            if end.reason is FinishReason.LENGTH:
                assert len(end.generated) == job.sequence.max_tokens
        if self.engine.executor.fail_on_run is None:
            assert failed == 0
        assert self.engine.loop.unfinished == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("model", SPECS)
def test_whatever_happens_every_job_ends_once_and_no_answer_is_wrong(model: str, seed: int) -> None:
    traffic = Traffic(model, seed)
    traffic.play()
    traffic.check()
    assert set(traffic.engine.names("error")) <= {"step_failed"}
