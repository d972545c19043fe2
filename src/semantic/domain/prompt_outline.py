"""What of a conversation is not as it was: told by digests and tokens, never by text.

    before  | tools | system | m0 | m1 | m2 | answer
    now     | tools | system | m0 | m1 | x2 | ...
                                        ^ the first difference

Digests say which section has changed, tokens where. Decides; remembers nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import common_length
from semantic.domain.reuse import MissCause, Reuse

_DIGEST_BYTES = 8
"""Two sections alike by chance would cost a wrong word in a report."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A conversation, once it has been a prompt: digests of its sections, and its `tokens`.

    The first `num_system` messages are its system prompt, and not among `messages`.
    """

    tools: bytes
    system: bytes
    messages: tuple[bytes, ...]
    num_system: int
    tokens: Sequence[TokenId]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a prompt could reuse, of what is known: its first `reusable` tokens.

    `difference`, `cause` and `message` are those to be told if it does.
    """

    reusable: int
    difference: int
    cause: MissCause
    message: int | None = None


def outline(said: Conversation, tokens: Sequence[TokenId]) -> Outline:
    """The outline of a conversation that has become `tokens`."""
    system = tuple(takewhile(lambda message: message.role is Role.SYSTEM, said.messages))
    return Outline(
        tools=_digest(said.use.tools),
        system=_digest(map(_said, system)),
        messages=tuple(_digest([_said(one)]) for one in said.messages[len(system) :]),
        num_system=len(system),
        tokens=tokens,
    )


def closest(now: Outline, earlier: Sequence[Outline]) -> Outline | None:
    """The one that most likely was this conversation before; among equals the last."""

    def likeness(place: int) -> tuple[bool, int, int, int]:
        before = earlier[place]
        same = (before.system == now.system) + (before.tools == now.tools)
        return _related(now, before), _shared(now, before), same, place

    return earlier[max(range(len(earlier)), key=likeness)] if earlier else None


def expected(now: Outline, before: Outline) -> Expectation:
    """What can be reused of an earlier prompt and its answer, and what keeps it from more."""
    same = common_length(now.tokens, before.tokens)
    cause, message = _change(now, before, same)
    return Expectation(reusable_of(same, len(before.tokens), len(now.tokens)), same, cause, message)


def reusable_of(same: int, known: int, prompt: int) -> int:
    """Tokens whose KV can be there if `same` of `known` ones begin a prompt of that length.

    Of what was known the last token may have none yet, and of a prompt one is always computed.
    """
    return max(0, min(same, known - 1, prompt - 1))


def told(
    expectation: Expectation | None, cached: int, warm: int, obstacle: MissCause | None
) -> Reuse:
    """What is told of a prompt of which so many tokens are reused.

    `obstacle` is what the engine found in the way of more; without an expectation, and without
    that, what it knew was all.
    """
    hot = cached - warm
    if expectation is None:
        cause = obstacle or (MissCause.CONTINUED if cached else MissCause.NEW)
        return Reuse(hot, warm, cached, cause)
    difference = max(expectation.difference, cached)
    if cached < expectation.reusable:
        return Reuse(hot, warm, difference, obstacle or MissCause.EVICTED)
    return Reuse(hot, warm, difference, expectation.cause, expectation.message)


def _change(now: Outline, before: Outline, same: int) -> tuple[MissCause, int | None]:
    shared = _shared(now, before)
    first = now.num_system + shared
    if not _related(now, before):
        return MissCause.NEW, None
    if now.tools != before.tools:
        return MissCause.TOOLS_CHANGED, None
    if now.system != before.system:
        return MissCause.SYSTEM_CHANGED, 0
    if same >= min(len(now.tokens), len(before.tokens) - 1):
        return MissCause.CONTINUED, None
    return MissCause.MESSAGES_CHANGED, first if shared < len(now.messages) else None


def _related(now: Outline, before: Outline) -> bool:
    """Whether they can be one conversation: some message is in both."""
    return not set(now.messages).isdisjoint(before.messages)


def _shared(now: Outline, before: Outline) -> int:
    """Leading messages that both have."""
    pairs = zip(now.messages, before.messages, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _said(message: ChatMessage) -> object:
    calls = tuple((call.name, call.arguments) for call in message.calls)
    return (message.role.value, message.content, message.reasoning, calls)


def _digest(told: Iterable[object]) -> bytes:
    text = repr(tuple(told)).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
