"""How much of a prompt was remembered, and why not more: what an answer tells of its memory."""

import enum
from dataclasses import dataclass


class MissCause(enum.Enum):
    """The likely reason why memory ended where it did."""

    NEW = "new"
    """No such conversation is known; what is reused of it others begin with, too."""
    CONTINUED = "continued"
    """All that was remembered of the conversation was reused; the rest is new."""
    SYSTEM_CHANGED = "system_changed"
    TOOLS_CHANGED = "tools_changed"
    MESSAGES_CHANGED = "messages_changed"
    OTHER_MODEL = "other_model"
    """The agent was remembered by another model, or in other precision."""
    EVICTED = "evicted"
    """It was remembered, and given up when space was short; or was never kept."""
    QUARANTINED = "quarantined"
    """What was stored could not be used: it is damaged, and put aside, or could not be read."""
    LATE = "late"
    """The disk did not answer in time."""
    RECOMPUTED = "recomputed"
    """Computing it again was faster than reading it."""
    NO_ROOM = "no_room"
    """There was no memory for more of it beside what runs."""
    ALIGNED = "aligned"
    """The model resumes from some positions only; the last of them was used."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """Tokens of the prompt, by where their KV came from. The rest of the prompt was computed.

    `difference` is the first token that is known to differ from what was remembered of the
    conversation, or the first that had to be computed, where nothing else is known. `message` is
    the number, from 0, of the first message that differs, where that is known.
    """

    hot_tokens: int = 0
    warm_tokens: int = 0
    difference: int | None = None
    cause: MissCause | None = None
    message: int | None = None


NOTHING_REUSED = Reuse()
