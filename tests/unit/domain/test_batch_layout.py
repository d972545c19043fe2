from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.batch_layout import BatchLayout
from semantic.domain.ids import SequenceId


def padded(rows: Sequence[int]) -> int:
    """One byte a token."""
    return len(rows) * max(rows, default=0)


def layout_of(*rows: int, padding_limit: int = 1000) -> BatchLayout:
    layout = BatchLayout(padded, padding_limit)
    for number, tokens in enumerate(rows):
        place = layout.places(tokens)[0]
        layout.put(SequenceId(number), tokens, place.partner)
        assert layout.nbytes == place.nbytes
    return layout


def test_rows_of_like_length_decode_together() -> None:
    assert layout_of(500, 520, 480).batches == ((0, 1, 2),)
    assert layout_of(500, 520, 480).nbytes == 3 * 520


def test_a_long_row_does_not_make_short_ones_pad() -> None:
    layout = layout_of(500, 520, 4000, 480, 3900)
    assert layout.batches == ((0, 1, 3), (2, 4))
    assert layout.nbytes == 3 * 520 + 2 * 4000


def test_padding_less_than_the_weights_is_cheaper_than_reading_them_again() -> None:
    assert layout_of(500, 4000, padding_limit=3500).batches == ((0, 1),)
    assert layout_of(500, 4000, padding_limit=3499).batches == ((0,), (1,))


def test_where_memory_is_short_there_is_a_smaller_way() -> None:
    together, apart = layout_of(500).places(1400)
    assert (together.partner, together.nbytes) == (0, 2800)
    assert (apart.partner, apart.nbytes) == (None, 1900)


def test_a_suspect_is_alone_and_stays_so() -> None:
    layout = layout_of(500)
    (place,) = layout.places(500, alone=True)
    layout.put(SequenceId(7), 500, place.partner, alone=True)
    layout.put(SequenceId(8), 500, layout.places(500)[0].partner)
    assert layout.batches == ((0, 8), (7,))


def test_rows_grow_and_go() -> None:
    layout = layout_of(500, 500)
    assert layout.grown({SequenceId(1): 700}) == 1400
    assert layout.nbytes == 1000
    layout.grow({SequenceId(1): 700})
    assert layout.nbytes == 1400
    assert layout.room(SequenceId(1)) == 700
    assert layout.beside(SequenceId(1)) == (0,)
    layout.remove(SequenceId(1))
    layout.remove(SequenceId(99))
    assert layout.nbytes == 500
    assert SequenceId(1) not in layout
    layout.remove(SequenceId(0))
    assert layout.batches == ()
    assert layout.nbytes == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "grow", "remove"]), st.integers(1, 5000)), max_size=40
    ),
    st.integers(0, 5000),
)
def test_bytes_are_those_of_the_batches_and_padding_is_bounded(
    steps: list[tuple[str, int]], limit: int
) -> None:
    layout = BatchLayout(padded, limit)
    rows: dict[SequenceId, int] = {}
    for number, (step, tokens) in enumerate(steps):
        if step == "put":
            before = layout.nbytes
            place = layout.places(tokens)[0]
            layout.put(SequenceId(number), tokens, place.partner)
            rows[SequenceId(number)] = tokens
            assert layout.nbytes == place.nbytes <= before + tokens + limit
        elif rows and step == "grow":
            key = sorted(rows)[tokens % len(rows)]
            rows[key] += tokens
            bytes_then = layout.grown({key: rows[key]})
            layout.grow({key: rows[key]})
            assert layout.nbytes == bytes_then
        elif rows:
            key = sorted(rows)[tokens % len(rows)]
            del rows[key]
            layout.remove(key)
        assert sorted(key for batch in layout.batches for key in batch) == sorted(rows)
        expected = sum(padded([rows[key] for key in batch]) for batch in layout.batches)
        assert layout.nbytes == expected
        assert all(layout.room(key) == tokens for key, tokens in rows.items())


def test_nothing_is_known_of_strangers() -> None:
    with pytest.raises(StopIteration):
        layout_of(500).room(SequenceId(9))
