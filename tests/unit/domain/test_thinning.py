"""What to give up of a conversation of nine tokens in blocks of three."""

import pytest
from tests.fakes.blocks import MINE
from tests.unit.domain.test_prefix_index import (
    FIRST,
    PROMPT,
    SECOND,
    SLIDING,
    STATE,
    TAIL,
    header,
    index_of,
    with_extras,
)

from semantic.domain.block import BlockHeader, PartId
from semantic.domain.resume import ResumeRule
from semantic.domain.thinning import Thinning, thinned

WINDOW = ResumeRule(windows=(4,))
RECURRENT = ResumeRule(recurrent=True)


def plan(
    rule: ResumeRule,
    *headers: BlockHeader,
    limit: int = 1,
    system_end: int = 0,
    marks: tuple[int, ...] = (),
) -> Thinning:
    index = index_of(*headers, rule=rule)
    return thinned(index, PROMPT[:8], MINE, limit=limit, system_end=system_end, marks=marks)


def ends(thinning: Thinning) -> list[int]:
    return [point.end for point in thinning.points]


STATES = (*with_extras(FIRST, STATE), *with_extras(SECOND, STATE), *with_extras(TAIL, STATE))
WINDOWS = (*with_extras(FIRST, SLIDING), *with_extras(SECOND, SLIDING), TAIL)


def test_where_any_position_serves_nothing_is_given_up() -> None:
    assert plan(ResumeRule(), *STATES) == Thinning()


@pytest.mark.parametrize(
    ("limit", "system_end", "given_up"),
    [
        (3, 0, []),
        (2, 0, [3]),
        (1, 0, [3, 6]),
        (2, 3, [6]),
        (2, 6, [3]),
        (1, 3, [6]),
        (2, 5, [3]),
    ],
)
def test_the_system_prompts_end_and_the_last_points_stay(
    limit: int, system_end: int, given_up: list[int]
) -> None:
    assert ends(plan(RECURRENT, *STATES, limit=limit, system_end=system_end)) == given_up


def test_with_a_point_goes_all_that_was_kept_for_it() -> None:
    early = header(4, 5, after=FIRST)
    found = plan(RECURRENT, *STATES, *with_extras(early, STATE), limit=2)
    assert [point.parts for point in found.points] == [
        (PartId(FIRST.key, STATE),),
        (early.id, PartId(early.key, STATE)),
    ]


def test_sliding_parts_that_no_point_sees_need_not_rest_on_disk() -> None:
    assert plan(WINDOW, *WINDOWS).unseen == (PartId(FIRST.key, SLIDING),)


@pytest.mark.parametrize(("system_end", "marks"), [(3, ()), (0, (3,)), (4, ()), (0, (4,))])
def test_what_is_seen_from_a_mark_stays(system_end: int, marks: tuple[int, ...]) -> None:
    assert plan(WINDOW, *WINDOWS, system_end=system_end, marks=marks).unseen == ()


@pytest.mark.parametrize("branch", [(9,), (9, 9, 9)])
def test_what_is_seen_from_a_branch_stays(branch: tuple[int, ...]) -> None:
    assert plan(WINDOW, *WINDOWS, header(*branch, after=FIRST)).unseen == ()
    assert plan(WINDOW, *WINDOWS, header(*branch)).unseen == (PartId(FIRST.key, SLIDING),)


def test_what_is_not_there_is_not_given_up() -> None:
    assert plan(WINDOW, FIRST, *with_extras(SECOND, SLIDING), TAIL).unseen == ()
