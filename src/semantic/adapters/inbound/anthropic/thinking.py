"""Reasoning in Anthropic's words: how much there should be, and what is shown of it.

A thinking block has a signature that the client brings back unread. Where the client wants no
reasoning to see it is kept in there, as text that is packed, not secret: a template that repeats
the reasoning of an unfinished turn gets the same prompt again. Where it is shown a digest will do.
"""

import base64
import binascii
import hashlib
import zlib
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from semantic.adapters.inbound.wire import EFFORTS, Wire
from semantic.domain.chat import Effort

_SHOWN: Final = "semantic-digest."
_HIDDEN: Final = "semantic-packed."
_DIGEST_BYTES: Final = 24
_MAX_PACKED_TEXT: Final = 4_000_000
"""Bytes that a signature is unpacked to at most: some hundred thousand tokens. A longer one of ours
could not be; it is another's, who wants memory filled."""

_LOW_BUDGET: Final = 4_096
_MEDIUM_BUDGET: Final = 16_384
"""Budgets up to these are a low, and a medium effort: in tokens, where clients' own steps lie."""

EffortName = Literal["low", "medium", "high", "xhigh", "max"]


class Thinking(Wire):
    """`thinking`: whether, and how much. A budget tells the effort and is no limit."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None
    block_binding: JsonValue = None


def effort_of(thinking: Thinking | None, named: EffortName | None) -> Effort | None:
    """How much the model should reason; None leaves it to the model."""
    if thinking and thinking.type == "disabled":
        return Effort.NONE
    if named:
        return EFFORTS[named]
    if thinking is None or thinking.type != "enabled" or thinking.budget_tokens is None:
        return None
    if thinking.budget_tokens <= _LOW_BUDGET:
        return Effort.LOW
    return Effort.MEDIUM if thinking.budget_tokens <= _MEDIUM_BUDGET else Effort.HIGH


def signature(reasoning: str, *, shown: bool) -> str:
    """What the client brings back with the block."""
    data = reasoning.encode()
    if shown:
        return _SHOWN + _text(hashlib.sha256(data).digest()[:_DIGEST_BYTES])
    return _HIDDEN + _text(zlib.compress(data))


def reasoning_of(thinking: str, signed: str) -> str:
    """The reasoning of a block that came back; empty where another server has hidden it."""
    if thinking or not signed.startswith(_HIDDEN):
        return thinking
    try:
        packed = base64.b64decode(signed.removeprefix(_HIDDEN), validate=True)
        return zlib.decompressobj().decompress(packed, _MAX_PACKED_TEXT).decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError):
        return ""


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
