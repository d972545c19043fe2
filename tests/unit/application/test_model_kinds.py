"""Whole requests, with every kind of model: the right answers, however they are come by.

The executor trusts what it is given, as a real one does: a part that is wrong, stale or somebody
else's shows as a wrong answer.
"""

import random
from collections.abc import Callable

import pytest
from tests.fakes.blocks import MINE, SECRET
from tests.fakes.cache_bench import tokens_of
from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.scripted_executor import NAMESPACE, SPECS, ScriptedExecutor
from tests.fakes.small_engine import SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens

from semantic.application.engine_job import JobEnded
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.block import PartId, PartKind
from semantic.domain.block_hash import root_key
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import DEFAULT_TENANT
from semantic.domain.prefix_index import PrefixIndex
from semantic.domain.sequence import SequenceState

LONG = tokens_of(700)
LENGTHS = (1, 2, 7, 8, 9, 39, 40, 41, 255, 256, 257, 299, 300, 301, 511, 512, 513, 556, 700)
"""Around the ends of blocks and of windows of 8, 40 and 300, and where those have moved on."""


def bench_of(model: str, **settings: int) -> Bench:
    executor = ScriptedExecutor(SPECS[model], trusting=True)
    return Bench(SmallEngine(executor, **settings))  # type: ignore[arg-type] # by name


def generated(bench: Bench, prompt: Tokens, count: int, *, cached: int) -> Tokens:
    """The answer, which was right, and of whose prompt so much was known."""
    listener = bench.answer(prompt, count)
    assert listener.cached == cached
    end = listener.ends[0]
    assert isinstance(end, JobEnded)
    return end.generated


@pytest.fixture(params=SPECS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAlone:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_the_same_again_computes_one_token(self, model: str, length: int) -> None:
        bench = bench_of(model)
        prompt = LONG[:length]
        generated(bench, prompt, 12, cached=0)
        generated(bench, prompt, 12, cached=length - 1)
        assert "get" not in {action for action, _ in bench.engine.blocks.journal.entries}
        bench = bench.restart()
        generated(bench, prompt, 12, cached=length - 1)
        assert bench.names() == []
        bench.close()

    @pytest.mark.parametrize("length", LENGTHS)
    def test_the_next_turn_goes_on_where_the_last_one_ended(self, model: str, length: int) -> None:
        bench = bench_of(model)
        tokens = LONG[:length]
        for asked in ((94,), (93, 92, 91)):
            tokens += generated(bench, tokens, 12, cached=0 if tokens == LONG[:length] else length)
            length = len(tokens)
            bench = bench.restart() if asked == (94,) else bench
            tokens += asked
        generated(bench, tokens, 12, cached=length)
        assert bench.names() == []
        bench.close()

    @pytest.mark.parametrize("answer", [1, 55, 56, 57, 100, 312, 400])
    def test_an_answer_that_moves_windows_and_ends_blocks_is_gone_on_from(
        self, model: str, answer: int
    ) -> None:
        bench = bench_of(model)
        tokens = LONG[:200]
        tokens += generated(bench, tokens, answer, cached=0)
        hot = (*tokens, 94)
        generated(bench, hot, 30, cached=len(tokens))
        bench = bench.restart()
        generated(bench, (*tokens, 93), 30, cached=len(tokens))
        bench.close()

    def test_an_answer_is_the_same_however_often_it_is_interrupted(self, model: str) -> None:
        bench = bench_of(model)
        tokens = LONG[:250]
        for turn in range(10):
            listener = bench.answer(tokens, 37)
            # Nothing was added: a state at the very end is of no use, the one before is taken.
            assert listener.cached >= (len(tokens) - 1 - 37 if turn else 0)
            end = listener.ends[0]
            assert isinstance(end, JobEnded)
            tokens += end.generated
            bench = bench.restart()
        assert tokens[250:] == right_answer(LONG[:250], 370)
        bench.close()

    def test_a_long_conversation_keeps_few_resume_points(self, model: str) -> None:
        bench = bench_of(model, resume_points=3)
        tokens = LONG[:100]
        for _ in range(15):
            known = len(tokens) if len(tokens) > 100 else 0
            tokens += (94, *right_answer(tokens, 3))
            tokens += generated(bench, tokens, 20, cached=known)
            bench = bench.restart()
        tails = [one for one in bench.engine.blocks.headers(NAMESPACE) if one.kind is PartKind.TAIL]
        assert len(tails) <= 3
        bench.close()

    @pytest.mark.parametrize("chunk", [1, 7, 100, 256, 300, 1000])
    def test_the_size_of_chunks_does_not_matter(self, model: str, chunk: int) -> None:
        bench = bench_of(model)
        bench.engine.limits = SchedulerLimits(1, chunk, chunk)
        bench = Bench(bench.engine)
        tokens = LONG[:540]
        tokens += generated(bench, tokens, 5, cached=0)
        bench = bench.restart()
        generated(bench, (*tokens, 94), 5, cached=545)
        bench.close()


class TestBranches:
    @pytest.mark.parametrize("shared", [1, 40, 255, 256, 257, 300, 512, 555, 556, 699])
    def test_another_conversation_uses_what_it_can_and_answers_right(
        self, model: str, shared: int
    ) -> None:
        bench = bench_of(model, state_interval=256)
        bench.answer(LONG)
        branch = (*LONG[:shared], 94, 94, *LONG[:100])
        for restarted in (False, True):
            bench = bench.restart() if restarted else bench
            other = (*branch, 1 + restarted)
            listener = bench.answer(other)
            # The branch left a resume point of its own, whatever it began with itself.
            known = shared + 102 * restarted
            anywhere = SPECS[model].resume_rule.anywhere
            assert listener.cached == known if restarted or anywhere else listener.cached <= known
        bench.close()

    @pytest.mark.parametrize("system_end", [1, 8, 255, 256, 257, 300, 555, 556, 600])
    def test_the_system_prompt_is_where_others_begin(self, model: str, system_end: int) -> None:
        bench = bench_of(model)
        system = LONG[:system_end]
        for number in range(3):
            job, listener = bench.accept((*system, 94 - number, *LONG[:400]))
            job.sequence.system_end = system_end
            bench.settle()
            assert listener.answer() == right_answer(job.sequence.prompt, 8)
            assert listener.cached == (system_end if number else 0)
            bench = bench.restart()
        bench.close()


class TestTogether:
    def test_jobs_of_all_lengths_are_answered_right(self, model: str) -> None:
        bench = bench_of(model, resume_points=100)
        for _ in range(2):
            jobs = []
            for number, length in enumerate(LENGTHS):
                jobs.append((LONG[:length], bench.accept(LONG[:length], max_tokens=3 + number)[1]))
                bench.work.turn()
            bench.settle()
            for number, (prompt, listener) in enumerate(jobs):
                assert listener.answer() == right_answer(prompt, 3 + number)
        for prompt, listener in jobs:
            assert listener.cached == len(prompt) - 1
        bench.close()

    @pytest.mark.parametrize("turns", [1, 2, 3, 5])
    def test_what_a_cancelled_job_computed_is_kept(self, model: str, turns: int) -> None:
        bench = bench_of(model)
        bench.engine.limits = SchedulerLimits(1, 300, 300)
        bench = Bench(bench.engine)
        job, listener = bench.accept(LONG, max_tokens=100)
        for _ in range(turns):
            bench.work.turn()
        computed = job.sequence.num_computed
        bench.work.cancel(job.sequence.id)
        end = listener.last()
        assert isinstance(end, JobEnded)
        bench = bench.restart()
        generated(bench, (*LONG, *end.generated, 3), 5, cached=computed)
        bench.close()


def known_of(model: str, bench: Bench, prompt: Tokens, good: Callable[[PartId], bool]) -> int:
    """How much of a prompt can be begun with if only some parts on disk can be had."""
    index = PrefixIndex(root_key(NAMESPACE, SECRET), BLOCK_SIZE, SPECS[model].resume_rule)
    for header in bench.engine.blocks.headers(NAMESPACE):
        index.add(header)
    uses = index.match(prompt[:-1], MINE, lambda part: part in index and good(part))
    return sum(use.length for use in uses)


class TestBadParts:
    def stored(self, model: str) -> Bench:
        """`LONG` is on disk, and resume points at 300, 512 and 699."""
        bench = bench_of(model, state_interval=512)
        job, listener = bench.accept(LONG)
        job.sequence.system_end = 300
        bench.settle()
        assert listener.answer() == right_answer(LONG, 8)
        return bench.restart()

    def parts(self, model: str) -> list[PartId]:
        bench = self.stored(model)
        parts = [header.id for header in bench.engine.blocks.headers(NAMESPACE)]
        bench.close()
        return parts

    @pytest.mark.parametrize("absent", [True, False])
    def test_any_one_costs_what_it_must_and_is_kept_anew(self, model: str, *, absent: bool) -> None:
        needed = 0
        for part in self.parts(model):
            bench = self.stored(model)
            known = known_of(model, bench, LONG, part.__ne__)
            if absent:
                bench.engine.blocks._parts.pop((NAMESPACE, part))
            else:
                bench.engine.blocks.damage(NAMESPACE, part)
            generated(bench, LONG, 8, cached=known)
            if known < 699:
                assert bench.names() == ["block_unusable"]
                needed += 1
            bench = bench.restart()
            generated(bench, LONG, 8, cached=699)
            bench.close()
        assert needed >= 3

    @pytest.mark.parametrize("seed", range(8))
    def test_several_cost_what_they_must(self, model: str, seed: int) -> None:
        numbers = random.Random(seed)  # noqa: S311 - reproducible damage, no secrets
        parts = self.parts(model)
        bad = set(numbers.sample(parts, numbers.randint(1, len(parts) // 2)))
        bench = self.stored(model)
        known = known_of(model, bench, LONG, lambda part: part not in bad)
        for part in bad:
            bench.engine.blocks.damage(NAMESPACE, part)
        generated(bench, LONG, 8, cached=known)
        bench = bench.restart()
        generated(bench, LONG, 8, cached=699)
        bench.close()

    def test_a_disk_that_cannot_be_read_costs_a_recompute(self, model: str) -> None:
        bench = self.stored(model)
        bench.engine.blocks.failing = True
        generated(bench, LONG, 8, cached=0)
        bench.engine.blocks.failing = False
        bench.close()

    @pytest.mark.parametrize("seed", range(4))
    def test_of_a_slow_disk_what_has_come_is_used(self, model: str, seed: int) -> None:
        numbers = random.Random(seed)  # noqa: S311 - a reproducible choice, no secrets
        bench = self.stored(model)
        uses = bench.engine.cache.match(LONG, DEFAULT_TENANT)
        wanted = [part for use in uses for part in use.ids]
        job, listener = bench.accept(LONG)
        bench.work.turn()
        arrivals = [bench.arrivals.get(timeout=PATIENCE_S) for _ in wanted]
        came = numbers.sample(arrivals, numbers.randrange(len(arrivals)))
        for message in came:
            bench.work.arrived(*message)
        assert job.sequence.state is SequenceState.LOADING
        had = {part for part, _ in came}
        known = known_of(model, bench, LONG, had.__contains__)
        bench.engine.clock.now += bench.engine.read_timeout_s
        bench.settle()
        assert listener.answer() == right_answer(LONG, 8)
        assert listener.cached == known
        assert bench.names() == ["read_timed_out"]
        bench.close()


@pytest.mark.parametrize("hot_bytes", [0, 3000, 9000])
@pytest.mark.parametrize("queue_bytes", [0, 3000, 1 << 20])
def test_with_little_room_answers_are_right(model: str, hot_bytes: int, queue_bytes: int) -> None:
    bench = bench_of(model, hot_bytes=hot_bytes, queue_bytes=queue_bytes, state_interval=256)
    numbers = random.Random(1)  # noqa: S311 - reproducible lengths, no secrets
    tokens = LONG[:500]
    for turn in range(6):
        length = numbers.randrange(300, len(tokens) + 1)
        bench.answer(tokens if turn % 2 else (*tokens[:length], 94, turn), 10)
        tokens += right_answer(tokens, 10)
    bench.close()
