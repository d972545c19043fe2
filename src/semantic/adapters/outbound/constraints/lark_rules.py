"""The rules of a grammar in llguidance's dialect of Lark: text, special tokens, text up to a mark.

Invariant: text that is read up to a mark does not hold the mark, in whatever tokens it is spelt.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from semantic.domain.ids import TokenId

ANY: Final = "(?s:.*)"
NOTHING: Final = '""'


@dataclass
class LarkRules:
    """The rules, in the order in which they were named. `special` tokens come of no text."""

    special: Mapping[str, TokenId]
    lines: list[str] = field(default_factory=list)

    def rule(self, name: str, body: str) -> str:
        """Add one; its name."""
        self.lines.append(f"{name}: {body}")
        return name

    def marked(self, text: str) -> str:
        """Text that may hold special tokens, letter for letter."""
        if not text:
            return NOTHING
        return " ".join(
            f"<[{self.special[piece]}]>" if piece in self.special else quoted(piece)
            for piece in self.pieces(text)
        )

    def pieces(self, text: str) -> list[str]:
        """Text cut at special tokens, the longest first where one begins another."""
        names = sorted((name for name in self.special if name in text), key=len, reverse=True)
        if not names:
            return [text]
        cut = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
        return [piece for piece in cut if piece]

    def until(self, name: str, mark: str, without: str = "", text: Sequence[str] = ()) -> str:
        """A rule for text up to `mark` and with it; all expressions of `text` match it.

        None of it, mark and all, matches `without`.
        """
        # Blank space before a mark is looked at together with it: alone it would end any line.
        head, rest = self._headed(mark)
        bare = escaped(mark.strip())
        if rest and rest[0] in self.special:
            apart = f" & ~/{without}/" if without else ""
            told = [
                f"/(?:{one}){escaped(head)}/" for one in (*text, "(?s:.+)" if not head else ANY)
            ]
            terminal = self.rule(
                f"{name.upper()}_TEXT", f"{' & '.join(told)} & ~/{ANY}{bare}{ANY}/{apart}"
            )
            may = "?" if not head and all(map(_may_be_empty, text)) else ""
            return self.rule(name, f"{terminal}{may} {self.marked(''.join(rest))}")
        told = [f"/(?:{one}){escaped(head)}/" for one in text or (ANY,)]
        apart = f" & ~/{without}/" if without else ""
        if (text or head != head.strip()) and bare in escaped(head):
            # Any text ends with the first of them, as it is lazy; no other does.
            apart += f" & ~/{ANY}{bare}{ANY}{bare}{ANY}/"
        terminal = self.rule(f"{name.upper()}_UNTIL", f"{' & '.join(told)}{apart}")
        self.rule(f"{name}_head[lazy]", terminal)
        return self.rule(name, f"{name}_head {self.marked(''.join(rest))}")

    def _headed(self, mark: str) -> tuple[str, list[str]]:
        """The text that a mark begins with, and the pieces that follow it."""
        first, *rest = self.pieces(mark)
        return ("", [first, *rest]) if first in self.special else (first, rest)

    def without(self, name: str, patterns: Sequence[str]) -> str:
        """A terminal for text that matches none of the patterns."""
        return self.rule(name, " & ".join(["/(?s:.+)/", *(f"~/{one}/" for one in patterns)]))

    def text(self) -> str:
        """The whole grammar."""
        return "\n".join(self.lines) + "\n"


def _may_be_empty(expression: str) -> bool:
    try:
        return re.fullmatch(expression, "") is not None
    except re.error:
        return False


def quoted(text: str) -> str:
    """As the grammar's literal."""
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """As a regular expression that matches nothing else."""
    return "".join(
        letter if letter.isalnum() or not letter.isascii() else f"\\x{ord(letter):02x}"
        for letter in text
    )
