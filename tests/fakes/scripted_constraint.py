"""Constraints that depend on every token before: who misses one, or takes one twice, is lost."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from semantic.domain.errors import EngineError
from semantic.domain.ids import TokenId

Allows = Callable[[tuple[TokenId, ...]], frozenset[TokenId] | None]
"""After these tokens of the answer, the tokens that may come; None if all may."""

VOCABULARY = 101


def some(history: tuple[TokenId, ...]) -> frozenset[TokenId]:
    """A tenth of the vocabulary, another one after every history."""
    begin = zlib.crc32(repr(history).encode())
    return frozenset(TokenId((begin + 37 * number) % VOCABULARY) for number in range(10))


def one(history: tuple[TokenId, ...]) -> frozenset[TokenId]:
    """A single token, another one after every history."""
    return frozenset({TokenId(zlib.crc32(repr(history).encode()) % VOCABULARY)})


@dataclass
class ScriptedConstraint:
    """Implements the port `Constraint`. `fails_at`: its masks fail after so many tokens."""

    allows: Allows = some
    fails_at: int | None = None
    masks: "list[ScriptedMask]" = field(default_factory=list)

    def begin(self) -> "ScriptedMask":
        self.masks.append(ScriptedMask(self))
        return self.masks[-1]


@dataclass
class ScriptedMask:
    """Implements the port `TokenMask`."""

    constraint: ScriptedConstraint
    history: tuple[TokenId, ...] = ()

    def accept(self, token: TokenId) -> None:
        allowed = self.constraint.allows(self.history)
        if allowed is not None and token not in allowed:
            raise EngineError(f"{token} cannot follow {self.history}")
        self.history += (token,)

    def allowed(self) -> bytes | None:
        if len(self.history) == self.constraint.fails_at:
            raise RuntimeError("the script says that this mask fails")
        allowed = self.constraint.allows(self.history)
        if allowed is None:
            return None
        bits = sum(1 << token for token in allowed)
        return bits.to_bytes(-(-VOCABULARY // 8), "little")
