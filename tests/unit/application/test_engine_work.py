"""Everything on one thread: the test is the engine's thread."""

from dataclasses import replace

import pytest
from tests.fakes.faulty_executor import FaultyExecutor
from tests.fakes.letter_tokenizer import LetterTokenizer
from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.scripted_constraint import ScriptedConstraint, one
from tests.fakes.scripted_executor import NAMESPACE, ScriptedExecutor
from tests.fakes.small_engine import Listener, SmallEngine, right_answer
from tests.fakes.work_bench import Bench, Tokens

from semantic.application.engine_job import (
    Job,
    JobEnded,
    JobEvent,
    JobFailed,
    JobProgress,
    JobScored,
    JobStarted,
    JobText,
)
from semantic.application.scheduler import SchedulerLimits
from semantic.domain.block import PartId, PartKind
from semantic.domain.chat import FinishReason
from semantic.domain.errors import EngineError
from semantic.domain.ids import DEFAULT_TENANT, BlockKey, SequenceId
from semantic.domain.sequence import SequenceState

LONG: Tokens = tuple(number * 7 % 95 for number in range(700))


def in_state(bench: Bench, state: SequenceState) -> tuple[Job, Listener]:
    """A job of `LONG` in a state, with little steps and the engine for itself."""
    if state is SequenceState.WAITING:
        bench.accept((1, 2), max_tokens=3)
        bench.work.turn()
    elif state is SequenceState.LOADING:
        bench.engine.blocks.reading.shut()
    job, listener = bench.accept(LONG, max_tokens=30)
    while job.sequence.state is not state:
        if job.loading:
            bench.arrive()
        else:
            bench.work.turn()
    if state in (SequenceState.PREFILL, SequenceState.DECODE):
        for _ in range(2):
            bench.work.turn()
    assert job.sequence.state is state
    return job, listener


class TestOneJob:
    def test_a_whole_life(self) -> None:
        bench = Bench()
        text = LetterTokenizer().decode(LONG)
        listener = bench.answer(LetterTokenizer().encode(text))
        assert listener.events[0] == JobStarted(0)
        # A chunk of 512, and the rest, which leads to the first text.
        assert listener.events[1] == JobProgress(512, 700)
        assert all(isinstance(event, JobText) for event in listener.events[2:-1])
        bench.close()

    def test_text_comes_piece_by_piece_and_is_the_answer(self) -> None:
        bench = Bench()
        bench.engine.executor.choose = lambda tokens: len(tokens) % 95
        _, listener = bench.accept((1, 2, 3), max_tokens=5)
        bench.settle()
        pieces = [event.text for event in listener.events if isinstance(event, JobText)]
        assert "".join(pieces) == LetterTokenizer().decode((3, 4, 5, 6, 7))
        assert len(pieces) == 5
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert end.reason is FinishReason.LENGTH
        assert end.remembered == end.generated == (3, 4, 5, 6, 7)

    def test_a_stop_token_ends_it(self) -> None:
        bench = Bench()
        stop = right_answer(LONG, 4)[3]
        _, listener = bench.accept(LONG, 50, stop_tokens=frozenset({stop}))
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert end.reason is FinishReason.STOP
        assert end.generated[-1] == stop
        assert len(end.generated) <= 4

    def test_a_stop_string_ends_it(self) -> None:
        bench = Bench()
        bench.engine.executor.choose = lambda tokens: len(tokens) % 95
        _, listener = bench.accept((1,), 50, stops=("%&",))
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert end.reason is FinishReason.STOP
        assert LetterTokenizer().decode(end.generated) == '!"#$%&'
        assert LetterTokenizer().decode(end.remembered or ()) == '!"#$'

    def test_text_held_back_is_shown_at_the_end(self) -> None:
        bench = Bench()
        bench.engine.executor.choose = lambda tokens: len(tokens) % 95
        _, listener = bench.accept((1,), 2, stops=('"never',))
        bench.settle()
        assert [event.text for event in listener.events if isinstance(event, JobText)] == [
            "!",
            '"',
        ]

    @pytest.mark.parametrize("length", [1, 255, 256, 257, 512, 700])
    def test_the_same_again_from_memory(self, length: int) -> None:
        bench = Bench()
        assert bench.answer(LONG[:length]).cached == 0
        assert bench.answer(LONG[:length]).cached == length - 1
        assert "get" not in {action for action, _ in bench.engine.blocks.journal.entries}
        bench.close()

    @pytest.mark.parametrize("length", [1, 255, 256, 257, 512, 700])
    def test_the_same_again_after_a_restart(self, length: int) -> None:
        bench = Bench()
        first = bench.answer(LONG[:length], max_tokens=20).ends[0]
        assert isinstance(first, JobEnded)
        bench = bench.restart()
        longer = (*LONG[:length], *first.generated)
        assert bench.answer(longer, max_tokens=20).cached == len(longer) - 1
        assert bench.names() == []
        bench.close()

    def test_an_answer_is_the_same_however_often_it_is_interrupted(self) -> None:
        bench = Bench()
        tokens = LONG[:250]
        for turn in range(6):
            listener = bench.answer(tokens, max_tokens=7)
            assert listener.cached == (len(tokens) - 1 if turn else 0)
            end = listener.ends[0]
            assert isinstance(end, JobEnded)
            tokens += end.generated
            bench = bench.restart()
        assert tokens[250:] == right_answer(LONG[:250], 42)
        assert len(list(bench.engine.blocks.headers(NAMESPACE))) == 2
        bench.close()

    def test_a_model_whose_kv_cannot_be_cut_answers_without_memory(self) -> None:
        bench = Bench(SmallEngine(executor=ScriptedExecutor(None)))
        for _ in range(2):
            assert bench.answer(LONG).cached == 0
        assert bench.names() == []
        bench.close()

    def test_a_changed_history_uses_what_is_still_the_same(self) -> None:
        bench = Bench()
        bench.answer(LONG)
        assert bench.answer((*LONG[:300], 94, *LONG[:50])).cached == 300
        bench.close()


class TestTogether:
    def test_jobs_of_all_lengths_are_answered_right(self) -> None:
        bench = Bench()
        prompts = [LONG[:300], (5,), LONG[:600], (*LONG[:300], 94), LONG[10:280], LONG[:256]]
        jobs = []
        for number, prompt in enumerate(prompts):
            jobs.append(bench.accept(prompt, max_tokens=5 + number))
            bench.work.turn()
        bench.settle()
        for number, (prompt, (_, listener)) in enumerate(zip(prompts, jobs, strict=True)):
            assert listener.answer() == right_answer(prompt, 5 + number)
        bench.close()

    def test_no_more_than_the_limit_are_in_the_engine(self) -> None:
        bench = Bench(SmallEngine(limits=SchedulerLimits(2, 512, 256)))
        listeners = [bench.accept((number,), max_tokens=3)[1] for number in range(5)]
        while not bench.work.idle:
            bench.work.turn()
            assert len(bench.engine.executor.sequences) <= 2
        for number, listener in enumerate(listeners):
            assert listener.answer() == right_answer((number,), 3)
        bench.close()

    def test_who_decodes_goes_on_while_another_waits_for_its_blocks(self) -> None:
        bench = Bench()
        bench.answer(LONG)
        bench = bench.restart()
        bench.engine.blocks.reading.shut()
        job, loading = bench.accept(LONG)
        _, quick = bench.accept((1, 2))
        while not quick.ends:
            bench.work.turn()
        assert job.sequence.state is SequenceState.LOADING
        assert bench.work.idle
        bench.engine.blocks.reading.open()
        bench.settle()
        assert loading.answer() == right_answer(LONG, 8)
        assert loading.cached == 699
        bench.close()


class TestCancel:
    @pytest.mark.parametrize(
        "state",
        [
            SequenceState.WAITING,
            SequenceState.LOADING,
            SequenceState.PREFILL,
            SequenceState.DECODE,
        ],
    )
    def test_in_every_state_it_ends_once_and_what_was_computed_is_kept(
        self, state: SequenceState
    ) -> None:
        bench = Bench()
        bench.answer(LONG[:300])
        bench = bench.restart(SchedulerLimits(1, 64, 64))
        job, listener = in_state(bench, state)
        computed = job.sequence.num_computed
        bench.work.cancel(job.sequence.id)
        bench.work.cancel(job.sequence.id)
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert end.reason is FinishReason.CANCELLED
        listener.check()
        bench.engine.blocks.reading.open()
        bench.settle()
        if state in (SequenceState.PREFILL, SequenceState.DECODE):
            assert computed > 300
            cached = bench.answer((*LONG, *end.generated, 3)).cached
            assert cached == computed
        bench.close()

    def test_what_was_shown_by_then_is_remembered(self) -> None:
        bench = Bench()
        bench.engine.executor.choose = lambda tokens: len(tokens) % 95
        _, listener = bench.accept((1,), 50, stops=('"#never',))
        for _ in range(3):
            bench.work.turn()
        bench.work.cancel(SequenceId(1))
        end = listener.last()
        assert isinstance(end, JobEnded)
        text = "".join(event.text for event in listener.events if isinstance(event, JobText))
        assert end.remembered == end.generated
        assert LetterTokenizer().decode(end.generated) == text == '!"'
        bench.close()

    def test_unknown_jobs_and_blocks_for_them_are_ignored(self) -> None:
        bench = Bench()
        bench.work.cancel(SequenceId(77))
        bench.work.arrived(PartId(BlockKey("0" * 64), PartKind.FULL), None)
        bench.close()

    def test_all_at_once(self) -> None:
        bench = Bench()
        listeners = [bench.accept(LONG, max_tokens=9)[1] for _ in range(6)]
        bench.work.turn()
        bench.work.cancel_all()
        for listener in listeners:
            listener.check()
        bench.close()


class TestReading:
    def stored(self) -> Bench:
        """`LONG` and its answer are on disk, in three blocks."""
        bench = Bench()
        bench.answer(LONG)
        return bench.restart()

    def test_a_read_that_takes_too_long_costs_a_recompute(self) -> None:
        bench = self.stored()
        bench.engine.blocks.reading.shut()
        _, listener = bench.accept(LONG)
        bench.work.turn()
        bench.engine.blocks.reading.wait_reached()  # what nobody has begun to read is withdrawn
        assert bench.work.idle
        assert bench.work.patience() == pytest.approx(2 + 699 * 0.1 / 1000)
        bench.engine.clock.now += 3
        assert bench.work.patience() == 0
        bench.work.turn()
        assert bench.work.patience() is None
        bench.engine.blocks.reading.open()
        bench.settle()
        assert listener.answer() == right_answer(LONG, 8)
        assert listener.cached == 0
        assert bench.names() == ["read_timed_out"]
        # What comes too late is not lost: it is still known, and read the next time.
        bench.arrive()
        bench.close()

    def test_what_has_come_in_time_is_used(self) -> None:
        bench = self.stored()
        job, listener = bench.accept(LONG)
        bench.work.turn()
        arrived = [bench.arrivals.get(timeout=PATIENCE_S) for _ in range(3)]
        (first,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[0].ids
        bench.work.arrived(*next(message for message in arrived if message[0] == first))
        bench.engine.clock.now += bench.engine.read_timeout_s
        bench.settle()
        assert listener.answer() == right_answer(LONG, 8)
        assert job.sequence.num_cached == 256
        bench.close()

    @pytest.mark.parametrize(("number", "cached"), [(0, 0), (1, 256), (2, 512)])
    def test_a_damaged_block_costs_what_follows_it_and_is_kept_anew(
        self, number: int, cached: int
    ) -> None:
        bench = self.stored()
        (part,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[number].ids
        bench.engine.blocks.damage(NAMESPACE, part)
        assert bench.answer(LONG).cached == cached
        assert bench.names() == ["block_unusable"]
        bench = bench.restart()
        assert bench.answer(LONG).cached == 699
        bench.close()

    def test_a_store_that_cannot_be_read_costs_a_recompute(self) -> None:
        bench = self.stored()
        bench.engine.blocks.failing = True
        assert bench.answer(LONG).cached == 0
        bench.engine.blocks.failing = False
        bench.close()

    def test_a_hole_in_the_chain_is_read_and_the_rest_taken_from_memory(self) -> None:
        bench = self.stored()
        bench.answer(LONG)
        (held,) = bench.engine.cache.match(LONG, DEFAULT_TENANT)[1].ids
        bench.engine.cache.parts._hot.discard(held)
        before = len(bench.engine.blocks.journal.entries)
        assert bench.answer(LONG).cached == 699
        reads = [e for e in bench.engine.blocks.journal.entries[before:] if e[0] == "get"]
        assert len(reads) == 1
        bench.close()


class TestFailure:
    def test_after_a_step_that_fails_all_go_on(self) -> None:
        bench = Bench()
        bench.answer(LONG)
        bench = bench.restart(SchedulerLimits(3, 512, 256))
        bench.engine.blocks.reading.shut()
        _, loading = bench.accept(LONG)
        _, decoding = bench.accept((1,))
        bench.work.turn()
        _, prefilling = bench.accept(tuple(reversed(LONG)))
        _, waiting = bench.accept((3,))
        bench.work.turn()
        bench.engine.executor.fail_on_run = len(bench.engine.executor.plans) + 1
        bench.work.turn()
        bench.engine.blocks.reading.open()
        bench.settle()
        assert loading.answer() == right_answer(LONG, 8)
        assert decoding.answer() == right_answer((1,), 8)
        assert prefilling.answer() == right_answer(tuple(reversed(LONG)), 8)
        assert waiting.answer() == right_answer((3,), 8)
        assert bench.names().count("step_failed") == 1
        bench.answer((9, 9))
        bench.close()

    def test_an_answer_is_not_lost_with_its_memory(self) -> None:
        bench = Bench(SmallEngine(executor=FaultyExecutor(failing={"seal": 10_000})))
        assert bench.answer(LONG, max_tokens=50).cached == 0
        # Not once for every token: when it failed, and at the end.
        assert bench.names() == ["capture_failed"] * 2
        assert bench.answer(LONG).cached == 0
        bench.close()

    def test_what_could_not_be_captured_at_first_is_captured_at_the_end(self) -> None:
        bench = Bench(SmallEngine(executor=FaultyExecutor(failing={"seal": 1})))
        assert bench.answer(LONG).cached == 0
        assert bench.answer(LONG).cached == 699
        bench.close()

    @pytest.mark.parametrize("kind", [JobStarted, JobText, JobEnded])
    def test_a_listener_that_raises_hurts_nobody_else(self, kind: type[JobEvent]) -> None:
        bench = Bench()

        def deaf(event: JobEvent) -> None:
            if isinstance(event, kind | JobFailed):
                raise RuntimeError("the loop is closed")  # noqa: TRY004 - not about the type

        job, _ = bench.accept(LONG)
        job.emit = deaf
        _, other = bench.accept((1, 2))
        bench.settle()
        assert other.answer() == right_answer((1, 2), 8)
        assert bench.names() == ["request_failed", "listener_failed"]
        bench.close()

    def test_a_decoder_that_raises_fails_its_own_job_only(self) -> None:
        bench = Bench()
        bench.engine.executor.choose = lambda tokens: 10_000 if tokens[0] == 3 else len(tokens)
        _, broken = bench.accept((3,))
        _, other = bench.accept((1, 2))
        bench.settle()
        assert isinstance(broken.last(), JobFailed)
        broken.check()
        assert other.answer() == (2, 3, 4, 5, 6, 7, 8, 9)
        bench.close()

    def test_errors_that_are_not_ours_are_said_in_our_words(self) -> None:
        bench = Bench()
        job, listener = bench.accept((1,))
        job.text._decoder = None  # type: ignore[assignment]
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobFailed)
        assert isinstance(end.error, EngineError)
        bench.close()

    def test_a_sequence_that_cannot_be_attached_fails_alone(self) -> None:
        bench = Bench(SmallEngine(executor=FaultyExecutor(failing={"attach": 1})))
        _, broken = bench.accept((3, 4))
        _, other = bench.accept((1, 2))
        bench.settle()
        assert isinstance(broken.last(), JobFailed)
        assert other.answer() == right_answer((1, 2), 8)
        bench.close()

    def test_a_release_that_fails_costs_no_answer(self) -> None:
        bench = Bench(SmallEngine(executor=FaultyExecutor(failing={"release": 1})))
        _, listener = bench.accept((1, 2))
        bench.settle()
        assert listener.answer() == right_answer((1, 2), 8)
        assert bench.num_closed == 1
        # The engine holds what nobody knows any more: it says so, and is reset.
        bench.answer((3, 4))
        assert bench.names() == ["release_failed", "step_failed"]
        bench.answer((5, 6))
        bench.close()

    @pytest.mark.parametrize("fail", [True, False])
    def test_an_engine_that_cannot_even_be_reset_fails_its_jobs_first(self, *, fail: bool) -> None:
        bench = Bench(SmallEngine(executor=FaultyExecutor(fail_on_run=3, failing={"reset": 1})))
        _, listener = bench.accept((1, 2))
        _, waiting = bench.accept((3, 4))
        with pytest.raises(RuntimeError, match="reset"):
            bench.settle()
        assert isinstance(listener.last(), JobFailed)
        if fail:
            bench.work.fail_all(EngineError("gone"))
        else:
            bench.work.cancel_all()
        listener.check()
        waiting.check()
        assert bench.num_closed == 2

    def test_all_fail_at_once_and_nothing_is_kept(self) -> None:
        bench = Bench()
        listeners = [bench.accept(LONG, max_tokens=9)[1] for _ in range(6)]
        bench.work.turn()
        seals: list[object] = []
        bench.engine.executor.seal = seals.append  # type: ignore[assignment]
        bench.work.fail_all(EngineError("gone"))
        for listener in listeners:
            listener.check()
            assert isinstance(listener.ends[0], JobFailed)
        assert seals == []
        bench.close()


class TestForms:
    def test_an_answer_is_held_to_its_form(self) -> None:
        bench = Bench()
        job, listener = bench.accept((1, 2, 3), max_tokens=5)
        job.constraint = ScriptedConstraint(one)
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert all(token in one(end.generated[:place]) for place, token in enumerate(end.generated))

    @pytest.mark.parametrize("fails_at", [0, 2])
    def test_one_that_cannot_be_held_fails_alone(self, fails_at: int) -> None:
        bench = Bench()
        job, failing = bench.accept(LONG, max_tokens=9)
        job.constraint = ScriptedConstraint(fails_at=fails_at)
        _, other = bench.accept((1, 2, 3), max_tokens=9)
        bench.settle()
        end, failure = other.last(), failing.last()
        assert isinstance(end, JobEnded)
        assert end.generated == right_answer((1, 2, 3), 9)
        assert isinstance(failure, JobFailed)
        assert isinstance(failure.error, EngineError)
        assert bench.engine.executor.sequences == frozenset()

    def test_it_goes_on_after_a_failure_that_was_not_its_own(self) -> None:
        bench = Bench()
        job, listener = bench.accept((1, 2, 3), max_tokens=9)
        job.constraint = ScriptedConstraint(one)
        bench.engine.executor.fail_on_run = 5
        bench.settle()
        end = listener.last()
        assert isinstance(end, JobEnded)
        assert len(end.generated) == 9
        assert all(token in one(end.generated[:place]) for place, token in enumerate(end.generated))


class TestPromptScores:
    @staticmethod
    def scored(bench: Bench, fail_on_run: int | None = None) -> tuple[JobScored, list[JobEvent]]:
        job, listener = bench.accept(LONG, max_tokens=3)
        job.sequence.sampling = replace(job.sequence.sampling, prompt_logprobs=1)
        executor = bench.engine.executor
        executor.fail_on_run = None if fail_on_run is None else len(executor.plans) + fail_on_run
        bench.settle()
        (found,) = [event for event in listener.events if isinstance(event, JobScored)]
        return found, listener.events

    def test_come_once_before_any_text(self) -> None:
        found, events = self.scored(Bench())
        assert found.first == LONG[0]
        assert tuple(score.token for score in found.tokens) == LONG[1:]
        texts = [event for event in events if isinstance(event, JobText)]
        assert events.index(found) < events.index(texts[0])

    def test_are_of_all_tokens_though_these_are_known(self) -> None:
        bench = Bench()
        bench.answer(LONG)
        found, events = self.scored(bench)
        assert events[0] == JobStarted(0)
        assert len(found.tokens) == len(LONG) - 1

    @pytest.mark.parametrize("fail_on_run", [1, 2, 4])
    def test_are_told_once_whatever_fails_meanwhile(self, fail_on_run: int) -> None:
        expected, _ = self.scored(Bench())
        found, events = self.scored(Bench(), fail_on_run)
        assert found == expected
        assert isinstance(events[-1], JobEnded)
