"""Who owns a memory.

An agent's name is free text from outside: it is checked once, here, and known inside by its
hash. A name never becomes a path. The rest of the file is what an agent remembers of its
conversations: the token ids that were really processed, next to their text.
"""

import hashlib
from dataclasses import dataclass, replace

from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, AgentKey, Namespace, TenantId, TokenId

MAX_NAME_LENGTH = 256
"""Characters. Longer names are mistakes or attacks."""


@dataclass(frozen=True, slots=True)
class AgentId:
    """A valid agent name and its key."""

    name: str
    key: AgentKey

    @classmethod
    def parse(cls, name: str, *, field: str) -> "AgentId":
        """Check `name`.

        Raises:
            InvalidRequestError: naming `field`, if the name is blank, too long, holds control
                characters, or looks like a way out of a folder.
        """
        text = name.strip()
        if not text:
            raise InvalidRequestError("an agent's name must not be empty", field=field)
        if len(text) > MAX_NAME_LENGTH:
            raise InvalidRequestError(
                f"an agent's name has at most {MAX_NAME_LENGTH} characters, this one has "
                f"{len(text)}",
                field=field,
            )
        if not text.isprintable():
            raise InvalidRequestError(
                "an agent's name must be printable text without control characters", field=field
            )
        if ".." in text.replace("\\", "/").split("/"):
            raise InvalidRequestError("an agent's name must not contain '../'", field=field)
        return cls(name=text, key=AgentKey(hashlib.sha256(text.encode()).hexdigest()))

    def within(self, namespace: Namespace, tenant: TenantId = DEFAULT_TENANT) -> "AgentId":
        """A tenant's agent as one model knows it: token ids mean nothing to another model."""
        scope = hashlib.sha256(f"{namespace}\0{tenant}\0{self.key}".encode())
        return AgentId(name=self.name, key=AgentKey(scope.hexdigest()))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a conversation: its rendered text and the ids that were really processed.

    `alias` is how a template writes the same once it is history, where that is not the text.
    """

    text: str
    ids: tuple[TokenId, ...]
    alias: str | None = None

    def length_in(self, rendered: str, position: int) -> int | None:
        """Characters that it takes of `rendered` from `position` on; None if that goes on else."""
        told = (self.text, self.alias) if self.alias else (self.text,)
        return max((len(one) for one in told if rendered.startswith(one, position)), default=None)


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of conversation: alternately what was asked and what was generated."""

    segments: tuple[Segment, ...]

    @property
    def ids(self) -> tuple[TokenId, ...]:
        """All token ids, in order."""
        return tuple(token for segment in self.segments for token in segment.ids)

    def common(self, rendered: str) -> tuple[int, int]:
        """How many leading segments `rendered` begins with, letter for letter, and its characters.

        Either a segment's text or its alias will do.
        """
        position = 0
        for count, segment in enumerate(self.segments):
            length = segment.length_in(rendered, position)
            if length is None:
                return count, position
            position += length
        return len(self.segments), position


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """What is kept of an agent. Branches are ordered from the oldest to the newest used."""

    name: str
    namespace: str
    branches: tuple[Branch, ...]
    updated_at: float
    """Seconds since the epoch."""
    tenant: TenantId = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Recall:
    """The part of a rendered conversation whose ids are known.

    `ids` stand for the first `length` characters of the rendered text; what follows has to be
    tokenized. `branch` is what those ids were taken from, `segments` how many of its segments.
    """

    ids: tuple[TokenId, ...] = ()
    length: int = 0
    branch: Branch | None = None
    segments: int = 0


def recall(branches: tuple[Branch, ...], rendered: str) -> Recall:
    """Find the branch that knows the longest beginning of `rendered`.

    Ids are reused only where the rendered text is identical to a segment's, or to how a template
    writes it later, whole segments at a time; the rest tokenizes on its own. A segment mostly ends
    with a turn, at a special token. Where a reply that was cut short is continued by hand, the
    seam's ids may differ from tokenizing all at once: the text is the same, and the ids are those
    that were really generated. The newest branch wins a tie.
    """
    best = Recall()
    for branch in reversed(branches):
        count, length = branch.common(rendered)
        if length > best.length:
            ids = Branch(branch.segments[:count]).ids
            best = Recall(ids=ids, length=length, branch=branch, segments=count)
    return best


def joined(older: AgentRecord, newer: AgentRecord, *, limit: int) -> AgentRecord:
    """The record of an agent whose turns `newer` came about while `older` was not to be had.

    At most `limit` branches are kept, the oldest go first.
    """
    others = tuple(branch for branch in older.branches if branch not in newer.branches)
    return replace(newer, branches=(*others, *newer.branches)[-limit:])


def remember(
    record: AgentRecord, recalled: Recall, new: tuple[Segment, ...], *, limit: int, now: float
) -> AgentRecord:
    """The record after a turn: `recalled` continued by `new` becomes the newest branch.

    The branch it grew from is replaced if it was used whole, and otherwise kept: a changed
    history starts a branch. At most `limit` branches are kept, the oldest go first.
    """
    grown_from = recalled.branch
    kept: tuple[Segment, ...] = ()
    others = record.branches
    if grown_from is not None:
        kept = grown_from.segments[: recalled.segments]
        if recalled.segments == len(grown_from.segments):
            others = tuple(branch for branch in others if branch is not grown_from)
    newest = Branch(segments=kept + new)
    others = tuple(branch for branch in others if branch != newest)
    return replace(record, branches=(*others, newest)[-limit:], updated_at=now)
