"""What the cache keeps of models that cannot be continued from just anywhere."""

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.cache_bench import Bench, Tokens, ids_of, keys_of, tokens_of
from tests.fakes.scripted_executor import (
    EVERYTHING,
    HYBRID,
    LONG_WINDOW,
    RECURRENT,
    SHORT_WINDOW,
    SPECS,
    TWO_WINDOWS,
    UNIFORM,
)
from tests.fakes.scripted_memory import FULL_LAYER, sliding_layer, spec_of

from semantic.application.kv_cache import KvCache
from semantic.domain.block import PartId, PartKind
from semantic.domain.cache_spec import BLOCK_SIZE, ModelCacheSpec
from semantic.domain.ids import DEFAULT_TENANT

FULL, TAIL, SLIDING, STATE = PartKind.FULL, PartKind.TAIL, PartKind.SLIDING, PartKind.STATE
PART_BYTES = LONG_WINDOW.nbytes(FULL)


class TestMarks:
    def test_they_are_where_the_model_needs_them(self) -> None:
        assert Bench(UNIFORM).begin(tokens_of(1000), 300).sequence.marks == ()
        assert Bench(LONG_WINDOW).begin(tokens_of(1000), 300).sequence.marks == (300, 999)
        bench = Bench(HYBRID, state_interval=512)
        assert bench.begin(tokens_of(1000), 300).sequence.marks == (300, 512, 999)
        assert Bench(None).begin(tokens_of(1000), 300).sequence.marks == ()


class TestSliding:
    """Windows of 300 see 299 tokens behind a position: of two blocks, where that ends one."""

    def test_it_is_written_only_of_what_windows_see_behind_a_resume_point(self) -> None:
        bench = Bench(LONG_WINDOW)
        bench.begin(tokens_of(1500)).prefill_as_planned()
        assert bench.ends_of(FULL) == [256, 512, 768, 1024, 1280]
        assert bench.ends_of(TAIL) == [1499]
        assert bench.ends_of(SLIDING) == [1280, 1499]

    @pytest.mark.parametrize(
        ("system_end", "tails", "sliding"),
        [
            (700, [700], [512, 700]),
            (512, [], [256, 512]),
            (555, [555], [512, 555]),
            (554, [554], [256, 512, 554]),
            (100, [100], [100]),
        ],
    )
    def test_so_it_is_behind_the_system_prompt(
        self, system_end: int, tails: list[int], sliding: list[int]
    ) -> None:
        bench = Bench(LONG_WINDOW)
        bench.begin(tokens_of(1500), system_end).prefill_as_planned()
        assert bench.ends_of(TAIL) == [*tails, 1499]
        assert bench.ends_of(SLIDING) == [*sliding, 1280, 1499]

    def test_a_short_window_sees_only_the_last_block(self) -> None:
        bench = Bench(SHORT_WINDOW)
        bench.begin(tokens_of(1500), 258).prefill_as_planned()
        assert bench.ends_of(SLIDING) == [256, 258, 1499]

    def test_the_end_of_a_turn_is_a_resume_point(self) -> None:
        bench = Bench(LONG_WINDOW)
        tokens = bench.answer(tokens_of(600), 500)
        assert len(tokens) == 1100
        assert bench.ends_of(TAIL) == [599, 1100]
        assert bench.ends_of(SLIDING) == [512, 599, 1024, 1100]
        assert bench.matched((*tokens, 1)) == 1100
        bench = bench.restarted()
        assert [bench.matched((*tokens[:end], 1)) for end in (1100, 1099, 599, 598)] == [
            1100,
            1099,
            599,
            598,
        ]
        assert bench.matched((*tokens[:900], 1)) == 599

    def test_nothing_is_written_twice(self) -> None:
        bench = Bench(LONG_WINDOW)
        for _ in range(3):
            bench.answer(tokens_of(600), 3, system_end=300)
        bench.flush()
        assert len(bench.puts()) == len(set(bench.puts()))

    def test_what_lies_between_serves_from_memory_as_long_as_it_is_there(self) -> None:
        bench = Bench(LONG_WINDOW)
        tokens = tokens_of(1500)
        bench.begin(tokens).prefill_as_planned()
        assert bench.matched((*tokens[:1024], 94, 94)) == 1024
        assert bench.restarted().matched((*tokens[:1024], 94, 94)) == 0

    def test_what_lies_between_leaves_memory_first(self) -> None:
        bench = Bench(LONG_WINDOW, hot_bytes=8 * PART_BYTES)
        tokens = tokens_of(1500)
        bench.begin(tokens).prefill_as_planned()
        assert bench.hot_ends(tokens, FULL) == [256, 512, 768, 1024, 1280]
        assert bench.hot_ends(tokens, SLIDING) == [1280]
        assert bench.matched((*tokens[:1024], 94, 94)) == 0
        assert bench.matched(tokens) == 1499

    def test_what_is_still_in_sight_is_written_though_memory_is_small(self) -> None:
        bench = Bench(LONG_WINDOW, hot_bytes=6 * PART_BYTES)
        running = bench.begin(tokens_of(1500))
        running.prefill_as_planned(budget=256)
        # All there is room for is what the last block rests on.
        assert bench.hot_ends(tokens_of(1500), FULL) == [256, 512, 768, 1024, 1280]
        assert bench.hot_ends(tokens_of(1500), SLIDING) == []
        assert bench.ends_of(SLIDING) == [1280, 1499]

    def test_without_room_in_memory_it_is_written_all_the_same(self) -> None:
        bench = Bench(LONG_WINDOW, hot_bytes=0)
        bench.answer(tokens_of(1000), 3)
        assert bench.ends_of(SLIDING) == [768, 999, 1003]
        # A window of 300 holds all of a tail of 235, so that its beginning serves as well.
        assert bench.matched((*tokens_of(1000), 1)) == 1000

    def test_what_was_not_written_is_sealed_again_and_nothing_else_is(self) -> None:
        bench = Bench(LONG_WINDOW)
        tokens = tokens_of(1500)
        bench.begin(tokens).prefill_as_planned()
        bench = bench.restarted()
        before = len(bench.puts())
        branch = (*tokens[:1024], 94, 94)
        assert bench.matched(branch) == 0
        bench.begin(branch).prefill_as_planned()
        bench.flush()
        new = [(part.kind, part.key) for part in bench.puts()[before:] if isinstance(part, PartId)]
        sliding = keys_of(tokens)[2:4]
        assert new == [
            (TAIL, keys_of(branch[:-1])[-1]),
            *((SLIDING, key) for key in sliding),
            (SLIDING, keys_of(branch[:-1])[-1]),
        ]

    def test_what_another_sequence_sealed_is_written_behind_ones_own_resume_points(self) -> None:
        bench = Bench(LONG_WINDOW)
        tokens = tokens_of(1500)
        branch = bench.begin((*tokens[:700], 94, 94))  # both begin with nothing known
        other = bench.begin(tokens)
        other.prefill_as_planned()
        other.leave()
        assert bench.ends_of(SLIDING) == [1280, 1499]
        branch.prefill_as_planned()
        assert bench.ends_of(SLIDING) == [512, 701, 1280, 1499]

    @pytest.mark.parametrize("window", [2, 8, 255, 256, 257, 300, 511, 512, 513, 600])
    @pytest.mark.parametrize("length", [256, 512, 1024])
    def test_a_prompt_of_whole_blocks_seals_its_last_late_and_completely(
        self, window: int, length: int
    ) -> None:
        bench = Bench(spec_of(FULL_LAYER, sliding_layer(window)))
        tokens = tokens_of(length)
        running = bench.begin(tokens)
        running.prefill_as_planned()
        assert len(running.chain.keys) == length // BLOCK_SIZE - 1
        running.decode(1)
        assert len(running.chain.keys) == length // BLOCK_SIZE
        last = keys_of(tokens)[-1]
        assert bench.cache.parts.hot(PartId(last, SLIDING)) is not None
        assert bench.matched((*tokens, 94, 94)) == length
        assert bench.restarted().matched((*tokens, 94)) == length - 1

    @pytest.mark.parametrize("window", [2, 255, 256, 257, 300, 513])
    def test_blocks_are_sealed_completely_while_tokens_come_one_by_one(self, window: int) -> None:
        bench = Bench(spec_of(FULL_LAYER, sliding_layer(window)))
        running = bench.begin(tokens_of(200))
        running.prefill_as_planned()
        running.decode(1000)
        tokens = running.sequence.computed_tokens(0, 1200)
        assert bench.hot_ends(tokens, SLIDING) == [256, 512, 768, 1024]
        for end in (256, 512, 768, 1024, 1200):
            assert bench.matched((*tokens[:end], 94, 94)) == (end if end < 1200 else 1024)

    def test_of_a_capture_that_came_too_late_nothing_wrong_is_kept(self) -> None:
        bench = Bench(SHORT_WINDOW)
        running = bench.begin(tokens_of(250))
        running.prefill_as_planned()
        running.decode(100, capturing=False)  # windows move on meanwhile
        tokens = running.end()
        assert bench.ends_of(FULL) == [256]
        assert bench.ends_of(SLIDING) == [249, 350]
        assert bench.matched((*tokens, 1)) == 350
        assert bench.matched((*tokens[:256], 94, 94)) == 249


class TestStates:
    def test_they_are_taken_at_marks_and_nowhere_else(self) -> None:
        bench = Bench(HYBRID, state_interval=512)
        bench.begin(tokens_of(1500), 300).prefill_as_planned()
        assert bench.ends_of(FULL) == [256, 512, 768, 1024, 1280]
        assert bench.ends_of(TAIL) == [300, 1499]
        assert bench.ends_of(STATE) == [300, 512, 1024, 1499]
        assert bench.ends_of(SLIDING) == []

    def test_those_are_where_one_can_go_on(self) -> None:
        bench = Bench(HYBRID, state_interval=512)
        tokens = tokens_of(1500)
        bench.begin(tokens, 300).prefill_as_planned()
        bench = bench.restarted()
        for length, known in ((1500, 1499), (1499, 1024), (1000, 512), (512, 300), (300, 0)):
            assert bench.matched(tokens[:length]) == known

    def test_an_interval_that_is_no_multiple_of_a_block_makes_tails(self) -> None:
        bench = Bench(RECURRENT, state_interval=100)
        bench.begin(tokens_of(300)).prefill_as_planned()
        assert bench.ends_of(TAIL) == [100, 200, 299]
        assert bench.ends_of(STATE) == [100, 200, 299]

    def test_answers_are_marked_at_intervals_as_well(self) -> None:
        bench = Bench(HYBRID, state_interval=512)
        tokens = bench.answer(tokens_of(500), 700)
        assert len(tokens) == 1200
        assert bench.ends_of(STATE) == [499, 512, 1024, 1200]
        assert bench.matched((*tokens, 1)) == 1200

    @pytest.mark.parametrize("length", [255, 256, 257, 512])
    def test_a_turn_that_ends_with_a_block_ends_with_its_state(self, length: int) -> None:
        bench = Bench(HYBRID)
        tokens = bench.answer(tokens_of(length), 768 - length)
        assert bench.ends_of(STATE) == sorted({length - 1, 768})
        assert bench.ends_of(TAIL) == ([] if length == 257 else [length - 1])
        assert bench.matched((*tokens, 1)) == 768

    def test_a_prompt_of_whole_blocks_goes_on_before_its_last_token(self) -> None:
        bench = Bench(HYBRID)
        bench.answer(tokens_of(512), 2)
        assert bench.ends_of(STATE) == [511, 514]
        assert bench.matched(tokens_of(512)) == 511
        assert bench.matched((*tokens_of(512), 94, 94)) == 511

    def test_a_state_that_has_moved_on_is_not_kept(self) -> None:
        bench = Bench(HYBRID)
        running = bench.begin(tokens_of(300))
        running.prefill_as_planned()
        running.decode(5)
        running.sequence.num_computed -= 1  # as if the engine were ahead
        running.end()
        assert bench.ends_of(TAIL) == [299, 304]
        assert bench.ends_of(STATE) == [299]
        assert bench.matched((*running.sequence.computed_tokens(0, 304), 94)) == 299

    def test_with_windows_a_resume_point_has_both(self) -> None:
        bench = Bench(EVERYTHING)
        bench.begin(tokens_of(1500), 700).prefill_as_planned()
        assert bench.ends_of(STATE) == [700, 1499]
        assert bench.ends_of(SLIDING) == [512, 700, 1280, 1499]

    def test_a_state_without_any_attention_is_all_there_is(self) -> None:
        bench = Bench(RECURRENT)
        tokens = bench.answer(tokens_of(300), 3)
        sizes = {
            header.kind: bench.blocks.nbytes(header.namespace, header.id)
            for header in bench.stored()
        }
        assert sizes == {FULL: 0, TAIL: 0, STATE: RECURRENT.nbytes(STATE)}
        assert bench.matched((*tokens, 1)) == 303


class TestThinning:
    def turns(self, bench: Bench, count: int, system_end: int = 50) -> Tokens:
        """A conversation: each turn asks 30 tokens and is answered by 20."""
        tokens = tokens_of(100)
        for turn in range(count):
            tokens = bench.answer((*tokens, *tokens_of(30, seed=turn)), 20, system_end)
        return tokens

    @pytest.mark.parametrize("model", ["short window", "long window", "hybrid", "everything"])
    def test_the_system_prompt_and_the_last_points_stay(self, model: str) -> None:
        bench = Bench(SPECS[model], resume_points=4)
        tokens = self.turns(bench, 12)
        assert len(tokens) == 700
        assert bench.ends_of(TAIL) == [50, 650, 679, 700]
        bench = bench.restarted()
        assert bench.matched((*tokens, 1)) == 700
        assert bench.matched((*tokens[:60], 94)) >= 50
        assert bench.matched((*tokens[:690], 94)) >= 679

    def test_with_them_go_their_parts(self) -> None:
        bench = Bench(EVERYTHING, resume_points=4)
        self.turns(bench, 12)
        assert bench.ends_of(STATE) == [50, 650, 679, 700]
        tails = [one for one in bench.stored() if one.kind is not FULL and len(one.tokens) < 256]
        assert sorted({one.end for one in tails}) == [50, 650, 679, 700]

    def test_of_full_blocks_only_states_go(self) -> None:
        bench = Bench(HYBRID, state_interval=256, resume_points=3)
        tokens = bench.answer(tokens_of(1500), 3)
        assert bench.ends_of(FULL) == [256, 512, 768, 1024, 1280]
        assert bench.ends_of(STATE) == [1280, 1499, 1503]
        assert bench.matched((*tokens, 1)) == 1503

    def test_the_end_of_a_system_prompt_stays_though_states_lie_before_it(self) -> None:
        bench = Bench(HYBRID, state_interval=256, resume_points=8)
        bench.answer(tokens_of(3000), 3, 300)
        assert 300 in bench.ends_of(STATE)
        assert bench.matched((*tokens_of(300), *([94] * 50))) == 300

    def test_sliding_parts_go_from_disk_with_the_points_that_needed_them(self) -> None:
        bench = Bench(LONG_WINDOW, hot_bytes=1 << 24, queue_bytes=1 << 26, resume_points=4)
        tokens = self.turns(bench, 40)
        full = [one for one in bench.ends_of(SLIDING) if one % 256 == 0]
        last = len(tokens) // 256 * 256
        assert full == [last - 256, last]
        # In memory they may stay, and serve.
        assert bench.matched((*tokens[:1024], 94, 94)) == 1024
        assert bench.restarted().matched((*tokens, 1)) == len(tokens)

    def test_sliding_parts_that_a_branch_needs_stay(self) -> None:
        bench = Bench(LONG_WINDOW, hot_bytes=0, queue_bytes=1 << 26, resume_points=2)
        trunk = bench.answer(tokens_of(1030), 3, 50)
        for turn in range(6):
            trunk = bench.answer((*trunk, *tokens_of(300, seed=turn)), 3, 50)
        other = bench.answer((*tokens_of(1030), *([94] * 5)), 3, 50)
        for turn in range(6):
            trunk = bench.answer((*trunk, *tokens_of(300, seed=turn)), 3, 50)
        assert bench.restarted().matched((*other, 1)) == len(other)

    def test_up_to_the_limit_all_stay(self) -> None:
        bench = Bench(HYBRID, resume_points=100)
        self.turns(bench, 5)
        assert len(bench.ends_of(TAIL)) == 1 + 2 * 5

    def test_another_conversations_points_stay(self) -> None:
        bench = Bench(HYBRID, resume_points=3)
        other = bench.answer((*tokens_of(100), 94, 94, 94), 5, 50)
        self.turns(bench, 6)
        assert bench.matched((*other, 1)) == len(other)

    def test_what_was_given_up_is_out_of_memory_too(self) -> None:
        bench = Bench(HYBRID, resume_points=3)
        first = bench.answer(tokens_of(130), 20, 50)
        assert bench.cache.parts.hot(ids_of(first)[0]) is not None
        self.turns(bench, 1)
        for turn in range(4):
            first = bench.answer((*first, *tokens_of(30, seed=turn)), 20, 50)
        assert len(bench.cache.parts._hot) == len(bench.stored())

    def test_where_any_position_serves_nothing_is_given_up(self) -> None:
        bench = Bench(UNIFORM, resume_points=1)
        tokens = self.turns(bench, 6)
        assert bench.matched((*tokens, 1)) == len(tokens)
        assert bench.ends_of(FULL, TAIL) == [256, 400]


class TestMemoryOnly:
    """What happens to parts while the disk does not keep up."""

    def test_they_serve_from_memory(self) -> None:
        bench = Bench(EVERYTHING, queue_bytes=0)
        tokens = bench.answer(tokens_of(600), 3)
        assert bench.matched((*tokens, 1)) == 603
        assert bench.stored() == []

    @pytest.mark.parametrize("spec", [SHORT_WINDOW, TWO_WINDOWS, EVERYTHING, HYBRID])
    def test_one_that_is_forgotten_takes_no_block_with_it_and_is_kept_anew(
        self, spec: ModelCacheSpec
    ) -> None:
        bench = Bench(spec)
        tokens = tokens_of(600)
        running = bench.begin((*tokens, 94))
        running.prefill_as_planned()
        tail = ids_of(tokens)[-1]
        bench.catch_up()
        for kind in spec.resume_rule.extras:
            part = PartId(tail.key, kind)
            assert bench.cache.parts.forget(part) == (part,)
            assert part not in bench.cache.parts.index
            assert bench.cache.parts.hot(part) is None
        assert tail in bench.cache.parts.index
        assert bench.matched((*tokens, 94)) < 600
        running.leave()
        bench.begin((*tokens, 94)).prefill_as_planned()
        assert bench.matched((*tokens, 94)) == 600

    def test_with_a_block_that_is_not_written_none_of_its_parts_is(self) -> None:
        bench = Bench(EVERYTHING, queue_bytes=LONG_WINDOW.nbytes(FULL))
        bench.blocks.writing.shut()
        other = bench.begin(tokens_of(300, seed=1))
        other.prefill(256)
        other.capture()
        bench.blocks.writing.wait_reached()
        running = bench.begin(tokens_of(300))
        running.prefill_as_planned()  # no room for any of it
        bench.catch_up()
        running.decode(3)
        assert bench.ends_of(FULL) == [256]
        bench.blocks.writing.shut()
        running.end()  # there is room for the block, and for it alone
        assert bench.ends_of(FULL) == [256, 256]
        assert bench.ends_of(TAIL, SLIDING, STATE) == []
        assert bench.matched((*tokens_of(300), 94)) == 299

    def test_what_found_no_room_is_written_with_the_next_resume_point(self) -> None:
        bench = Bench(LONG_WINDOW, queue_bytes=2 * PART_BYTES - 1)
        running = bench.begin(tokens_of(600), system_end=256)
        running.prefill(256)
        bench.blocks.writing.shut()
        running.capture()  # the block fills the queue: no room for what windows see of it
        assert bench.warnings() == ["block_kept_in_memory_only"]
        bench.catch_up()
        assert bench.ends_of(SLIDING) == []
        assert bench.matched(tokens_of(600)) == 256
        running.sequence.marks = (300,)
        running.prefill(44)
        running.capture()
        assert bench.ends_of(SLIDING) == [256, 300]
        assert bench.restarted().matched(tokens_of(600)) == 300


class TestAdopt:
    def restarted(self, spec: ModelCacheSpec) -> Bench:
        bench = Bench(spec)
        bench.answer(tokens_of(600), 3, system_end=300)
        return bench.restarted()

    @pytest.mark.parametrize("kind", [SLIDING, STATE])
    def test_a_bad_part_costs_its_resume_point_only(self, kind: PartKind) -> None:
        bench = self.restarted(EVERYTHING)
        prompt = tokens_of(600)
        assert bench.matched(prompt) == 599
        use = bench.cache.match(prompt, DEFAULT_TENANT)[-1]
        part = PartId(use.key, kind)
        assert part in use.ids
        assert bench.cache.adopt(part, prompt[512:599], None) is None
        assert bench.matched(prompt) == 300

    def test_a_part_of_another_shape_is_told_and_forgotten(self) -> None:
        bench = self.restarted(HYBRID)
        prompt = tokens_of(600)
        use = bench.cache.match(prompt, DEFAULT_TENANT)[-1]
        tail = bench.blocks.get(bench.executor.namespace, use.ids[0])
        assert tail is not None
        part = PartId(use.key, STATE)
        assert bench.cache.adopt(part, prompt[512:599], tail) is None
        ((_, event, fields),) = bench.telemetry.events
        assert (event, fields["part"]) == ("block_unusable", "state")
        assert bench.matched(prompt) == 300

    def test_what_is_there_is_taken_in(self) -> None:
        bench = self.restarted(EVERYTHING)
        prompt, position = tokens_of(600), 0
        for use in bench.cache.match(prompt, DEFAULT_TENANT):
            for part in use.ids:
                found = bench.blocks.get(bench.executor.namespace, part)
                expected = prompt[position : position + use.length]
                handle = bench.cache.adopt(part, expected, found)
                assert handle is not None
                assert bench.cache.parts.hot(part) is handle
            position += use.length
        assert position == 599
        assert bench.warnings() == []


class TestDiscover:
    @pytest.mark.parametrize("model", SPECS)
    def test_after_a_restart_as_much_is_known(self, model: str) -> None:
        bench = Bench(SPECS[model], state_interval=256)
        tokens = bench.answer(tokens_of(900), 30, system_end=300)
        bench = bench.restarted()
        assert len(bench.cache.parts.index) == len(bench.ends_of(FULL, TAIL))
        for length in (len(tokens) + 1, 900, 301):
            assert bench.matched((*tokens, 94)[:length]) == length - 1

    @pytest.mark.parametrize("kind", [SLIDING, STATE])
    def test_what_adds_to_a_block_that_is_gone_is_no_block(self, kind: PartKind) -> None:
        bench = Bench(EVERYTHING)
        tokens = bench.answer(tokens_of(900), 30, system_end=300)
        for header in bench.stored():
            if header.kind is not kind:
                bench.blocks.delete(header.namespace, header.id)
        cache = KvCache(bench.executor, bench.writes, bench.limits, bench.telemetry, SECRET)
        assert cache.discover(bench.blocks) == 0
        assert cache.match(tokens, DEFAULT_TENANT) == ()
