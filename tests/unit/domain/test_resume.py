import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.domain.block import PartKind
from semantic.domain.cache_spec import AttentionLayer, blocks_behind
from semantic.domain.resume import ResumeRule, resume_marks

UNIFORM = ResumeRule()
SLIDING = ResumeRule((8, 300))
SHORT = ResumeRule((8,))
LONG = ResumeRule((300,))
RECURRENT = ResumeRule((), recurrent=True)
BOTH = ResumeRule((8,), recurrent=True)

windows = st.lists(st.integers(2, 1200), max_size=3).map(lambda found: tuple(sorted(set(found))))
rules = st.builds(ResumeRule, windows, recurrent=st.booleans())


class TestRule:
    def test_only_full_attention_can_be_continued_anywhere(self) -> None:
        assert UNIFORM.anywhere
        assert not any(rule.anywhere for rule in (SHORT, LONG, RECURRENT, BOTH))

    def test_a_block_has_a_part_for_each_kind_of_layer(self) -> None:
        assert UNIFORM.extras == ()
        assert SLIDING.extras == (PartKind.SLIDING,)
        assert RECURRENT.extras == (PartKind.STATE,)
        assert BOTH.extras == (PartKind.SLIDING, PartKind.STATE)

    @pytest.mark.parametrize(
        ("rule", "length", "inside"),
        [
            (UNIFORM, 256, True),
            (RECURRENT, 1, False),
            (BOTH, 1, False),
            (SHORT, 7, True),
            (SHORT, 8, False),
            (SLIDING, 8, False),
            (LONG, 256, True),
            (ResumeRule((257,)), 256, True),
            (ResumeRule((256,)), 256, False),
        ],
    )
    def test_a_blocks_beginning_serves_if_all_of_it_is_there(
        self, rule: ResumeRule, length: int, *, inside: bool
    ) -> None:
        assert rule.inside(length) is inside

    @given(rule=rules, length=st.integers(1, 600))
    @settings(deadline=None, derandomize=True)
    def test_inside_agrees_with_what_layers_keep(self, rule: ResumeRule, length: int) -> None:
        layers = [AttentionLayer(1, 1, 1, "F32", window) for window in rule.windows]
        whole = all(layer.kept_of(length) == length for layer in layers)
        assert rule.inside(length) is (whole and not rule.recurrent)

    @pytest.mark.parametrize(
        ("rule", "position", "first"),
        [
            (UNIFORM, 500, 500),
            (RECURRENT, 500, 500),
            (SHORT, 500, 493),
            (SLIDING, 500, 201),
            (SHORT, 7, 0),
            (SHORT, 8, 1),
            (SHORT, 0, 0),
        ],
    )
    def test_the_widest_window_says_what_is_seen(
        self, rule: ResumeRule, position: int, first: int
    ) -> None:
        assert rule.first_seen(position) == first

    def test_windows_need_the_blocks_they_reach_into(self) -> None:
        position = 1000
        ends = range(256, position + 1, 1)
        needed = {end for end in ends if PartKind.SLIDING in LONG.needed(end, position)}
        assert needed == set(range(1000 - 299 + 1, 1001))
        assert SHORT.needed(256, 263) == ()
        assert SHORT.needed(256, 262) == (PartKind.SLIDING,)

    def test_a_state_is_needed_where_one_goes_on_and_nowhere_else(self) -> None:
        assert RECURRENT.needed(512, 512) == (PartKind.STATE,)
        assert RECURRENT.needed(256, 512) == ()
        assert BOTH.needed(512, 512) == (PartKind.SLIDING, PartKind.STATE)
        assert BOTH.needed(256, 512) == ()
        assert UNIFORM.needed(512, 512) == ()

    @given(window=st.integers(2, 3000), blocks=st.integers(1, 20))
    @settings(deadline=None, derandomize=True)
    def test_at_a_boundary_it_needs_as_many_blocks_as_the_window_takes(
        self, window: int, blocks: int
    ) -> None:
        rule = ResumeRule((window,))
        needed = [
            end for end in range(256, 256 * blocks + 1, 256) if rule.needed(end, 256 * blocks)
        ]
        assert len(needed) == min(blocks, blocks_behind(window))


class TestMarks:
    def test_none_where_any_position_will_do(self) -> None:
        assert resume_marks(UNIFORM, 1000, 300, 256) == ()

    @pytest.mark.parametrize(
        ("rule", "num_prompt", "system_end", "marks"),
        [
            (SHORT, 1000, 300, (300, 999)),
            (SHORT, 1000, 0, (999,)),
            (SHORT, 1000, 999, (999,)),
            (SHORT, 1000, 1000, (999,)),
            (SHORT, 1000, 5000, (999,)),
            (SHORT, 1, 1, ()),
            (SHORT, 2, 0, (1,)),
            (RECURRENT, 1000, 300, (256, 300, 512, 768, 999)),
            (RECURRENT, 257, 0, (256,)),
            (RECURRENT, 256, 0, (255,)),
            (RECURRENT, 513, 300, (256, 300, 512)),
            (RECURRENT, 1, 0, ()),
        ],
    )
    def test_where_others_begin_and_before_the_last_token_and_at_intervals_with_a_state(
        self, rule: ResumeRule, num_prompt: int, system_end: int, marks: tuple[int, ...]
    ) -> None:
        assert resume_marks(rule, num_prompt, system_end, 256) == marks

    @given(rules, st.integers(1, 3000), st.integers(0, 3000), st.integers(1, 1000))
    @settings(deadline=None, derandomize=True)
    def test_they_ascend_and_leave_a_token_to_compute(
        self, rule: ResumeRule, num_prompt: int, system_end: int, interval: int
    ) -> None:
        marks = resume_marks(rule, num_prompt, system_end, interval)
        assert list(marks) == sorted(set(marks))
        assert all(0 < mark < num_prompt for mark in marks)
