from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fakes.letter_tokenizer import LetterTokenizer

from semantic.application.text_stream import TextStream
from semantic.domain.answer_parser import parser_of
from semantic.domain.answer_pieces import (
    AnswerPiece,
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Reasoning,
    ReasoningEnded,
)
from semantic.domain.answer_syntax import AnswerSyntax, ReasoningSyntax
from semantic.domain.ids import TokenId
from semantic.domain.tools import Tool, ToolUse

TOKENIZER = LetterTokenizer()


class Pieces:
    """A decoder whose tokens are the numbers of these pieces; it may hold the last letter back."""

    def __init__(self, pieces: Sequence[str], *, lags: bool = False) -> None:
        self._pieces = pieces
        self._lags = lags
        self._held = ""

    def add(self, token: TokenId) -> str:
        text = self._held + self._pieces[token]
        cut = len(text) - 1 if self._lags and text else len(text)
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held


def up_to_stop(text: str, stops: Sequence[str]) -> str:
    """What may be shown, letter by letter: the stop string that is complete first ends it."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


def stream_of(pieces: Sequence[str], *stops: str) -> TextStream:
    return TextStream(Pieces(pieces), stops)


def text_of(pieces: Sequence[object]) -> str:
    """The content among the pieces."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Content))


def play(stream: TextStream, num_tokens: int) -> list[str]:
    """Add tokens until it stops; what came with each, and at the end."""
    pieces = []
    for token in range(num_tokens):
        pieces.append(text_of(stream.add(token)))
        if stream.stopped:
            break
    return [*pieces, text_of(stream.finish())]


def test_without_stop_strings_text_comes_at_once() -> None:
    assert play(stream_of(["a", "", "bc"]), 3) == ["a", "", "bc", ""]


def test_a_stop_string_split_over_tokens_ends_the_text() -> None:
    stream = stream_of(["one", " E", "N", "D two"], " END")
    assert play(stream, 4) == ["one", "", "", "", ""]
    assert stream.stopped
    assert stream.tokens_shown() == 1


def test_what_turns_out_to_be_no_stop_string_is_shown() -> None:
    assert play(stream_of(["a", "EN", "E", "x"], "END"), 4) == ["a", "", "EN", "Ex", ""]


def test_held_back_text_is_released_at_the_end() -> None:
    stream = stream_of(["a", "EN"], "END")
    assert play(stream, 2) == ["a", "", "EN"]
    assert not stream.stopped
    assert stream.tokens_shown() == 2


def test_the_shorter_of_two_stops_ends_the_text_where_one_begins_the_other() -> None:
    assert play(stream_of(["x", "\n", "\n"], "\n\n", "\n"), 3) == ["x", "", ""]


@pytest.mark.parametrize("pieces", [["abcX"], ["a", "b", "c", "X"], ["abc", "X"], ["ab", "cX"]])
def test_the_stop_that_is_complete_first_wins_however_tokens_fall(pieces: list[str]) -> None:
    stream = stream_of(pieces, "abcX", "bc")
    assert "".join(play(stream, len(pieces))) == "a"


def test_of_two_stops_complete_at_once_the_longer_wins() -> None:
    assert "".join(play(stream_of(["xa", "bc"], "bc", "abc"), 2)) == "x"


def test_a_stop_string_that_overlaps_itself_is_found() -> None:
    assert "".join(play(stream_of(["xa", "a", "a", "b"], "aab"), 4)) == "xa"


def test_text_after_the_stop_string_is_dropped_with_it() -> None:
    stream = stream_of(["aSTOPb"], "STOP")
    assert play(stream, 1) == ["a", ""]
    assert stream.tokens_shown() is None


def test_a_stop_at_the_very_beginning_shows_no_token() -> None:
    stream = stream_of(["ST", "OP"], "STOP")
    assert "".join(play(stream, 2)) == ""
    assert stream.tokens_shown() == 0


def test_tokens_without_text_before_a_stop_are_not_shown() -> None:
    stream = stream_of(["", "STOP"], "STOP")
    play(stream, 2)
    assert stream.tokens_shown() == 0


def test_half_a_character_is_not_shown_until_it_is_whole() -> None:
    first, second = TOKENIZER.encode("é")
    stream = TextStream(TOKENIZER.decoder(), ())
    told = [stream.add(first), stream.add(second), stream.finish()]
    assert [*map(text_of, told)] == ["", "é", ""]


def test_half_a_character_is_shown_at_the_end() -> None:
    stream = TextStream(TOKENIZER.decoder(), ())
    assert stream.add(TOKENIZER.encode("é")[0]) == ()
    assert text_of(stream.finish()) == "\N{REPLACEMENT CHARACTER}"
    assert stream.tokens_shown() == 1


def test_a_stop_string_may_hold_a_character_of_several_tokens() -> None:
    stream = TextStream(TOKENIZER.decoder(), ("éx",))
    tokens = TOKENIZER.encode("aéx")
    assert "".join(text_of(told) for told in [*map(stream.add, tokens), stream.finish()]) == "a"
    assert stream.tokens_shown() == 1


def test_a_stop_string_is_found_in_what_the_decoder_gives_last() -> None:
    stream = TextStream(Pieces(["a", "b"], lags=True), ("b",))
    assert play(stream, 2) == ["", "a", ""]
    assert stream.stopped


TEXT = st.text(alphabet="ab", max_size=4)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


@given(pieces=st.lists(TEXT, max_size=10), stops=STOPS, lags=st.booleans())
@example(pieces=["bba"], stops=["bba", "b"], lags=False)
def test_pieces_joined_are_the_text_up_to_the_first_stop_string(
    pieces: list[str], stops: list[str], *, lags: bool
) -> None:
    stream = TextStream(Pieces(pieces, lags=lags), tuple(stops))
    text = "".join(pieces)
    shown = "".join(play(stream, len(pieces)))
    assert shown == up_to_stop(text, stops)
    assert stream.stopped == any(stop in text for stop in stops)


@given(pieces=st.lists(TEXT, max_size=10), stops=STOPS)
def test_only_what_could_begin_a_stop_string_is_held_back(
    pieces: list[str], stops: list[str]
) -> None:
    stream = TextStream(Pieces(pieces), tuple(stops))
    shown = text = ""
    for token, piece in enumerate(pieces):
        shown += text_of(stream.add(token))
        text += piece
        if stream.stopped:
            return
        held = text[len(shown) :]
        assert text.startswith(shown)
        assert not held or any(stop.startswith(held) for stop in stops)


@given(pieces=st.lists(TEXT, max_size=10), stops=STOPS)
def test_tokens_shown_make_up_exactly_the_text_shown(pieces: list[str], stops: list[str]) -> None:
    stream = TextStream(Pieces(pieces), tuple(stops))
    shown = "".join(play(stream, len(pieces)))
    counts = [n for n in range(len(pieces) + 1) if "".join(pieces[:n]) == shown]
    if stream.stopped:
        assert stream.tokens_shown() == (counts[0] if counts else None)
    else:
        assert stream.tokens_shown() == len(pieces)


@given(pieces=st.lists(TEXT, max_size=10), stops=STOPS, lags=st.booleans())
def test_tokens_end_and_begin_where_their_text_does(
    pieces: list[str], stops: list[str], *, lags: bool
) -> None:
    stream = TextStream(Pieces(pieces, lags=lags), tuple(stops))
    shown = ""
    taken: list[str] = []
    ended = 0
    for token, piece in enumerate(pieces):
        shown += text_of(stream.add(token))
        taken.append(piece)
        assert stream.tokens_ended() >= ended
        ended = stream.tokens_ended()
        if not lags:
            assert len("".join(taken[:ended])) <= len(shown)
            # What has ended and leaves no text never stands last: it may still be cut off.
            assert not ended or taken[ended - 1]
        if stream.stopped:
            break
    shown += text_of(stream.finish())
    begun = stream.tokens_begun()
    if not stream.stopped:
        assert begun == len(pieces)
    elif not lags:
        assert len("".join(taken[:begun])) >= len(shown)
        assert not begun or len("".join(taken[: begun - 1])) < len(shown)
    assert begun >= ended


THINKS = AnswerSyntax(reasoning=ReasoningSyntax())
TOOLS = (Tool("get"),)
CALL = '<tool_call>\n{"name": "get", "arguments": {}}\n</tool_call>'


def reading(
    pieces: Sequence[str], *stops: str, parallel: bool = True
) -> tuple[TextStream, list[AnswerPiece]]:
    """A stream of a model that reasons and calls, and all that it gave out."""
    parser = parser_of(THINKS, ToolUse(TOOLS, parallel=parallel))
    stream = TextStream(Pieces(pieces), stops, parser)
    told: list[AnswerPiece] = []
    for token in range(len(pieces)):
        told += stream.add(token)
        if stream.stopped:
            break
    return stream, [*told, *stream.finish()]


def test_stop_strings_end_text_alone() -> None:
    stream, told = reading(["<think>", "END", "</think>", CALL, "END", "x"], "END")
    assert [type(piece) for piece in told] == [
        Reasoning,
        ReasoningEnded,
        CallBegun,
        CallArguments,
        CallEnded,
    ]
    assert (stream.stop, stream.tokens_shown()) == ("END", 4)


def test_a_stop_string_is_not_looked_for_across_a_call() -> None:
    stream, told = reading(["aEN", CALL, "D"], "END")
    assert text_of(told) == "aEND"
    assert stream.stop is None


def test_text_is_told_before_the_call_that_follows_it() -> None:
    _, told = reading(["aEN", CALL], "END")
    assert [type(piece) for piece in told][:3] == [Content, Content, CallBegun]


def test_it_says_which_stop_string_has_matched() -> None:
    assert reading(["a b"], "b", "a")[0].stop == "a"


def test_a_call_too_many_ends_it_after_the_last_one() -> None:
    stream, _ = reading(["<think>x</think>", CALL, "\n", CALL, "x"], parallel=False)
    assert stream.stopped
    assert stream.stop is None
    assert stream.tokens_shown() == 2


def test_reasoning_and_its_marks_are_counted() -> None:
    pieces = ["<think>", "\n", "x", "", "y", "</think>", "\n\n", "Yes", ".", ""]
    stream, _ = reading(pieces)
    assert stream.reasoning_tokens() == 7
    assert [index for index in range(len(pieces)) if stream.is_content(index)] == [7, 8, 9]


def test_an_answer_that_is_all_reasoning_is_counted_whole() -> None:
    stream, _ = reading(["<think>", "x", "y"])
    assert stream.reasoning_tokens() == 3


def test_tokens_of_calls_are_neither_text_nor_reasoning() -> None:
    stream, _ = reading(["Hi", *CALL, "x"])
    assert stream.reasoning_tokens() == 0
    content = [index for index in range(len(CALL) + 2) if stream.is_content(index)]
    assert content == [0, len(CALL) + 1]
