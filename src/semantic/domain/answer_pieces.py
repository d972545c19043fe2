"""What an answer is made of, piece by piece, as it is read.

Positions count the characters of the raw answer. The pieces come in the answer's order; what
stands between them are marks, and no text.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """More of the text that is meant for the reader: raw text, which ends at `end`."""

    text: str
    end: int

    @property
    def start(self) -> int:
        """Where it begins in the raw answer."""
        return self.end - len(self.text)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model reasons aloud."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """Reasoning, its marks and the blank space around it took `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of the tool `name`, whose raw text begins at `start`."""

    name: str
    start: int


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the last call's arguments; joined they are a JSON object, if nothing cut it off."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last call is over, complete or not; its raw text ends at `end`."""

    end: int


AnswerPiece = Content | Reasoning | ReasoningEnded | CallBegun | CallArguments | CallEnded
