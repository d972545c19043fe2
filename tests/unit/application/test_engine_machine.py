"""The whole engine under any order of messages and steps, with a budget that is mostly too small.

Whatever happens: the budget holds, nobody waits for ever, and every answer is the right one.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.scripted_executor import SPECS, ScriptedExecutor
from tests.fakes.small_engine import Listener, SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens

from semantic.application.engine_job import JobEnded, JobFailed
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.chat import FinishReason
from semantic.domain.ids import AgentKey, SequenceId

STEMS = tuple(tuple((seed * 31 + n * 7) % 95 for n in range(300)) for seed in range(2))


class EngineMachine(RuleBasedStateMachine):
    """Requests come and are cancelled, steps fail, blocks arrive late, the engine works."""

    @initialize(
        model=st.sampled_from(sorted(SPECS)),
        kv_bytes=st.sampled_from([45_000, 80_000, 1 << 30]),
        hot_bytes=st.sampled_from([0, 8_000, 1 << 20]),
        limits=st.sampled_from([SchedulerLimits(3, 512, 64), SchedulerLimits(5, 100, 100)]),
        padding_limit=st.sampled_from([0, 20_000]),
    )
    def build(
        self, model: str, kv_bytes: int, hot_bytes: int, limits: SchedulerLimits, padding_limit: int
    ) -> None:
        self.bench = Bench(
            SmallEngine(
                executor=ScriptedExecutor(SPECS[model], bytes_per_token=50),
                kv_bytes=kv_bytes,
                hot_bytes=hot_bytes,
                limits=limits,
                padding_limit=padding_limit,
                state_interval=256,
                restore_always=True,
            )
        )
        self.requests: dict[SequenceId, tuple[Listener, Tokens, int]] = {}

    @rule(
        stem=st.sampled_from([0, 1]),
        length=st.sampled_from([0, 1, 255, 256, 257, 300]),
        own=st.lists(st.integers(0, 94), min_size=1, max_size=3),
        answer=st.sampled_from([1, 3, 20, 300]),
        agent=st.sampled_from([None, "a", "b"]),
    )
    def come(self, stem: int, length: int, own: list[int], answer: int, agent: str | None) -> None:
        if len(self.requests) >= 8:
            return
        prompt = (*STEMS[stem][:length], *own)
        key = None if agent is None else AgentKey(agent)
        job, listener = self.bench.accept(prompt, answer, agent=key)
        job.chain.named = agent is not None
        self.requests[job.sequence.id] = (listener, prompt, answer)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.bench.work.cancel(data.draw(st.sampled_from(sorted(self.requests))))

    @rule(turns=st.integers(1, 6))
    def work(self, turns: int) -> None:
        for _ in range(turns):
            if not self.bench.work.idle:
                self.bench.work.turn()
                self.within_budget()

    @rule()
    def hear(self) -> None:
        while not self.bench.arrivals.empty():
            self.bench.arrive()

    @rule()
    def break_the_next_step(self) -> None:
        executor = self.bench.engine.executor
        executor.fail_on_run = len(executor.plans) + 1

    @invariant()
    def within_budget(self) -> None:
        if not hasattr(self, "bench"):
            return
        pool = self.bench.parts.cache.parts.pool
        pool.check()
        assert self.bench.engine.executor.held_bytes() <= pool.held

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.bench.settle()
        for listener, prompt, length in self.requests.values():
            end = listener.last()
            listener.check()
            if isinstance(end, JobFailed):
                # Without suspects every request in a step that fails gets a strike.
                assert "step_failed" in self.bench.names()
                continue
            assert isinstance(end, JobEnded)
            right = right_answer(prompt, len(end.generated))
            assert end.generated == right
            assert len(right) == length or end.reason is FinishReason.CANCELLED
        self.bench.close()
        pool = self.bench.parts.cache.parts.pool
        assert pool.held == 0
        assert self.bench.engine.writes.close(PATIENCE_S)


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
