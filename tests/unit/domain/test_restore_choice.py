import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.fakes.blocks import MINE

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import block_key
from semantic.domain.ids import BlockKey, Namespace, TokenId
from semantic.domain.prefix_index import PrefixIndex
from semantic.domain.restore_choice import (
    LEAST_SAVING_S,
    LEAST_SPEEDUP,
    Option,
    Pace,
    fastest,
    options,
)
from semantic.domain.resume import ResumeRule

ROOT = BlockKey("00" * 32)
SIZE = 4
RULES = [
    ResumeRule(),
    ResumeRule((7,)),
    ResumeRule((3, 10)),
    ResumeRule(recurrent=True),
    ResumeRule((6,), recurrent=True),
]


def index_of(rule: ResumeRule, tokens: tuple[TokenId, ...], drop: random.Random) -> PrefixIndex:
    """Blocks of `tokens`, of whose extra parts some are missing."""
    index = PrefixIndex(ROOT, SIZE, rule)
    parent, salt = ROOT, MINE.salt
    for start in range(0, len(tokens), SIZE):
        held = tokens[start : start + SIZE]
        key, salt = block_key(parent, held, salt), b""
        begins = PartKind.FULL if len(held) == SIZE else PartKind.TAIL
        for kind in (begins, *(extra for extra in rule.extras if drop.random() < 0.7)):
            index.add(BlockHeader(key, parent, Namespace("n"), kind, start, held, MINE.tenant))
        parent = key
    return index


def position_of(index: PrefixIndex, tokens: tuple[TokenId, ...], end: int) -> int:
    return sum(use.length for use in index.match(tokens[:end], MINE))


@given(
    rule=st.sampled_from(RULES),
    length=st.integers(1, 30),
    asked=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_every_boundary_that_a_model_resumes_from_is_an_option_and_no_other(
    rule: ResumeRule, length: int, asked: int, seed: int
) -> None:
    numbers = random.Random(seed)  # noqa: S311 - a reproducible choice
    tokens = tuple(numbers.choices(range(3), k=length))
    index = index_of(rule, tokens, numbers)
    prompt = (*tokens, 9, 9)[:asked]
    uses = index.match(prompt, MINE)
    cold = {part for use in uses for part in use.ids if numbers.random() < 0.5}
    nbytes: Callable[[PartId], int] = lambda part: 5 if part in cold else 0  # noqa: E731
    found = options(uses, rule, index.__contains__, nbytes)

    longest = sum(use.length for use in uses)
    assert found[0] == Option(longest, sum(nbytes(part) for use in uses for part in use.ids))
    assert found[-1] == Option(0, 0)
    # Brute force: whatever prefix of the prompt can be resumed from where it ends, on a boundary.
    boundaries = [end for end in range(0, longest, SIZE) if position_of(index, prompt, end) == end]
    assert [option.position for option in found[1:] or found] == (
        sorted(boundaries, reverse=True) if longest else [0]
    )
    for option in found[1:]:
        needed = [part for use in index.match(prompt[: option.position], MINE) for part in use.ids]
        # A part that only the shorter way needs was not asked for by the longer one.
        assert option.nbytes == sum(nbytes(part) for part in needed)


positive = st.floats(0.01, 1e9)


@given(
    steps=st.lists(st.tuples(st.integers(1, 512), st.integers(0, 1 << 30)), max_size=8),
    new=st.integers(1, 2000),
    pace=st.builds(Pace, positive, positive, st.floats(0, 5), st.integers(0, 1 << 30)),
)
def test_nothing_is_much_faster_than_what_is_chosen(
    steps: list[tuple[int, int]], new: int, pace: Pace
) -> None:
    found, position, nbytes = [Option(0, 0)], 0, 0
    for tokens, more in steps:
        position, nbytes = position + tokens, nbytes + more
        found.insert(0, Option(position, nbytes))
    num_tokens = position + new
    chosen = fastest(found, num_tokens, pace)
    took = chosen.seconds(num_tokens, pace)
    for other in found:
        least = other.seconds(num_tokens, pace)
        clearly_slower = took - least >= LEAST_SAVING_S and took >= LEAST_SPEEDUP * least
        assert not clearly_slower
    if chosen is not found[0]:
        longest = found[0].seconds(num_tokens, pace)
        assert longest - took >= LEAST_SAVING_S
        assert longest >= LEAST_SPEEDUP * took
        assert all(took <= other.seconds(num_tokens, pace) for other in found)


MB = 1_000_000


@pytest.mark.parametrize(
    ("pace", "position"),
    [
        (Pace(read_bytes=500 * MB, prefill_tokens=400), 1000),
        (Pace(read_bytes=10 * MB, prefill_tokens=400), 200),
        # A tie, and what is hardly faster: what is known is restored.
        (Pace(read_bytes=40 * MB, prefill_tokens=400), 1000),
        (Pace(read_bytes=30 * MB, prefill_tokens=400), 1000),
        # Both in no time.
        (Pace(read_bytes=1000 * MB, prefill_tokens=100_000), 1000),
        (Pace(read_bytes=10_000 * MB, prefill_tokens=10_000_000), 1000),
        # What is read before it counts, and what reading takes besides.
        (Pace(read_bytes=500 * MB, prefill_tokens=4000, bytes_ahead=5000 * MB), 200),
        (Pace(read_bytes=500 * MB, prefill_tokens=4000, latency_s=3), 200),
    ],
)
def test_where_it_pays(pace: Pace, position: int) -> None:
    # 200 tokens in memory, 800 on disk of 100 KB each, and 10 new ones.
    found = [Option(1000, 80 * MB), Option(600, 40 * MB), Option(200, 0), Option(0, 0)]
    assert fastest(found, 1010, pace).position == position


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_of_what_is_in_memory_all_is_used(tokens: list[int]) -> None:
    ends = [sum(tokens[:count]) for count in range(len(tokens), -1, -1)]
    found = [Option(end, 0) for end in ends]
    pace = Pace(read_bytes=1, prefill_tokens=1e12, latency_s=100, bytes_ahead=1000)
    assume(found)
    assert fastest(found, ends[0] + 1, pace) is found[0]
