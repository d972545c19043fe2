"""Finding marks in text of which more may come. Pure functions on strings.

A mark is matched whatever blank space stands in it or is missing: models are careless there.
"""

import enum


class Undecided(enum.Enum):
    """More text has to come before it can be said."""

    YET = "yet"


YET = Undecided.YET


def match(mark: str, text: str, at: int = 0) -> int | Undecided | None:
    """Where `mark` ends that begins at `at`; None if it does not.

    Blank space before it belongs to it, and after it what it ends with.
    """
    for letter in "".join(mark.split()):
        at = _past_blank(text, at)
        if at == len(text):
            return YET
        if text[at] != letter:
            return None
        at += 1
    return at + _shared(mark[len(mark.rstrip()) :], text[at:])


def _shared(one: str, other: str) -> int:
    """Length of what both begin with."""
    return next(
        (n for n, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1),
        min(len(one), len(other)),
    )


def held_back(text: str, marks: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that a mark begins with and is not all of."""
    return max(
        (
            length
            for mark in marks
            for length in range(1, min(len(mark), len(text) + 1))
            if text.endswith(mark[:length])
        ),
        default=0,
    )


def first_of(text: str, marks: tuple[str, ...]) -> tuple[int, str] | None:
    """The first of the `marks` in `text`, and where; of two at one place, the one named first."""
    found = [(at, order) for order, mark in enumerate(marks) if (at := text.find(mark)) >= 0]
    if not found:
        return None
    at, order = min(found)
    return at, marks[order]


def blank_end(text: str) -> int:
    """Length of the blank space that `text` ends with."""
    return len(text) - len(text.rstrip())


def _past_blank(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
