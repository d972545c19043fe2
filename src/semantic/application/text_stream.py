"""From an answer's tokens to the pieces that may be told, and where it ends.

Content that could turn out to be the beginning of a stop string is held back until it is certain.
Stop strings are looked for in content only, and not across what is none. Invariant: the content
handed out, joined, is the answer's up to the stop string that is complete first, the longest if
several are at once, however the text is cut into tokens.
"""

from semantic.domain.answer_parser import AnswerParser, parser_of
from semantic.domain.answer_pieces import (
    AnswerPiece,
    CallBegun,
    CallEnded,
    Content,
    ReasoningEnded,
)
from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.ids import TokenId
from semantic.domain.mark_matching import held_back
from semantic.ports.tokenizer import TokenDecoder


class TextStream:
    """One answer's pieces. Positions count characters of its raw text.

    Without a `parser` all text is content.
    """

    def __init__(
        self, decoder: TokenDecoder, stops: tuple[str, ...], parser: AnswerParser | None = None
    ) -> None:
        self._decoder = decoder
        self._stops = stops
        self._parser = parser or parser_of(AnswerSyntax())
        self._pending = Content("", 0)
        self._decoded = 0
        self._lengths: list[int] = []
        self._num_ended = 0
        self._released = 0
        self._cut: int | None = None
        self._spans: list[tuple[int, int]] = []
        self._reasoning: list[ReasoningEnded] = []
        self._last_call = 0
        self.stop: str | None = None
        self.called = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared, or a call too many; nothing more comes after it."""
        return self._cut is not None

    def add(self, token: TokenId) -> tuple[AnswerPiece, ...]:
        """What has become certain with `token`."""
        text = self._decoder.add(token)
        self._decoded += len(text)
        self._lengths.append(self._decoded)
        return self._released_of(self._parser.add(text)) if text else ()

    def finish(self, *, cut: bool = False) -> tuple[AnswerPiece, ...]:
        """The rest, once the last token is in; `cut`: the model would have gone on."""
        if self.stopped:
            return ()
        text = self._decoder.finish()
        pieces = (*self._parser.add(text), *self._parser.finish(cut=cut))
        out = self._released_of(pieces)
        if self.stopped:
            return out
        out = (*out, *self._flushed())
        self._cut = self._parser.untold
        return out

    def tokens_shown(self) -> int | None:
        """How many tokens make up exactly what was handed out up to where it stopped.

        None if that is in the middle of a token. If it did not stop, all.
        """
        if self._cut is None:
            return len(self._lengths)
        for count, length in enumerate((0, *self._lengths)):
            if length == self._cut:
                return count
        return None

    def tokens_ended(self, position: int | None = None) -> int:
        """How many tokens have ended in the content handed out so far, up to `position`.

        Tokens that leave no text, as halves of a character, end with the next one that does.
        """
        limit = self._released if position is None else position
        for count in range(self._num_ended + 1, len(self._lengths) + 1):
            if self._lengths[count - 1] > limit:
                break
            if self._lengths[count - 1] > self._length_of(count - 1):
                self._num_ended = count
        return self._num_ended

    def tokens_begun(self) -> int:
        """How many tokens have a share in what was handed out in all, once it is at its end.

        After a stop string, those that begin before it; otherwise all.
        """
        if self._cut is None:
            return len(self._lengths)
        return sum(self._length_of(count) < self._cut for count in range(len(self._lengths)))

    def is_content(self, index: int) -> bool:
        """Whether a token has a share in the content told so far.

        One that leaves no text goes with what surrounds it.
        """
        start, end = self._length_of(index), self._lengths[index]
        if not self._spans:
            return not self._reasoning and not self.called
        if start == end:
            return any(first <= start <= last for first, last in self._spans)
        return any(start < last and first < end for first, last in self._spans)

    def reasoning_tokens(self) -> int:
        """How many tokens are nothing but reasoning and its marks."""
        return sum(
            span.start <= self._length_of(index) and end <= span.end
            for index, end in enumerate(self._lengths)
            for span in self._reasoning
        )

    def _length_of(self, count: int) -> int:
        """Characters that the first `count` tokens have come to."""
        return self._lengths[count - 1] if count else 0

    def _released_of(self, pieces: tuple[AnswerPiece, ...]) -> tuple[AnswerPiece, ...]:
        out: list[AnswerPiece] = []
        for piece in pieces:
            if self.stopped:
                return tuple(out)
            if isinstance(piece, Content):
                out += self._content(piece)
            else:
                out += self._flushed()
                self._note(piece)
                out.append(piece)
        if self._parser.over and not self.stopped:
            self._cut = self._last_call
        return tuple(out)

    def _note(self, piece: AnswerPiece) -> None:
        match piece:
            case CallBegun():
                self.called = True
            case CallEnded(end):
                self._last_call = end
            case ReasoningEnded():
                self._reasoning.append(piece)

    def _content(self, piece: Content) -> list[Content]:
        """What of the content is certain, once this has come."""
        out = self._flushed() if piece.start != self._pending.end else []
        text = self._pending.text + piece.text
        self._pending = Content(text, piece.end)
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, start, self.stop = min(found)
            self._cut = piece.end - len(text) + start
            return out + self._told(start)
        return out + self._told(len(text) - held_back(text, self._stops))

    def _flushed(self) -> list[Content]:
        return self._told(len(self._pending.text))

    def _told(self, length: int) -> list[Content]:
        """Hand out the first of what is pending."""
        if not length:
            return []
        text, end = self._pending.text, self._pending.end
        told = Content(text[:length], end - len(text) + length)
        self._pending = Content(text[length:], end)
        self._released = told.end
        first = told.start
        if self._spans and self._spans[-1][1] == first:
            first, _ = self._spans.pop()
        self._spans.append((first, told.end))
        return [told]
