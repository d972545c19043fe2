"""How an agent's record is written down: JSON, signed.

    {"format":"semantic-agent/2","xxh3_128":"<digest of the record>","record":{...}}

A segment names its alias only if it has one, so records without any are what they always were.
The digest is taken over the record's bytes; what stands around them is compared literally, so
that every bit of a file is covered. Text is UTF-8 with lone surrogates passed through: clients
send them, and what a model was really shown must come back.

Decides about bytes; does no I/O.
"""

import json
import re
from dataclasses import dataclass
from typing import TypeGuard

import xxhash

from semantic.domain.agent import AgentRecord, Branch, Segment
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import AgentKey, tenant_id

FORMAT = "semantic-agent/2"

_ENVELOPE = re.compile(
    rb'\{"format":"(?P<format>[^"\\]*)","xxh3_128":"(?P<digest>[0-9a-f]{32})"'
    rb',"record":(?P<record>.*)\}\n',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class StoredAgent:
    """What an agent's file holds: whose it is, and the record."""

    key: AgentKey
    record: AgentRecord


def encode(agent: StoredAgent) -> bytes:
    """The bytes of an agent's file."""
    text = json.dumps(_as_json(agent), ensure_ascii=False, separators=(",", ":"))
    record = text.encode("utf-8", "surrogatepass")
    digest = xxhash.xxh3_128_hexdigest(record)
    head = f'{{"format":"{FORMAT}","xxh3_128":"{digest}","record":'
    return b"".join((head.encode(), record, b"}\n"))


def decode(data: bytes) -> StoredAgent:
    """The inverse of `encode`.

    Raises:
        CacheCorruptionError: if it is not, byte for byte, what `encode` writes.
        IncompatibleCacheError: if it is of another format.
    """
    envelope = _ENVELOPE.fullmatch(data)
    if envelope is None:
        raise CacheCorruptionError("not an agent's record")
    if envelope["format"] != FORMAT.encode():
        raise IncompatibleCacheError(f"format {envelope['format']!r}, not {FORMAT}")
    record = envelope["record"]
    if xxhash.xxh3_128_hexdigest(record) != envelope["digest"].decode():
        raise CacheCorruptionError("the record differs from what was written")
    try:
        return _from_json(json.loads(record.decode("utf-8", "surrogatepass")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheCorruptionError(f"the record cannot be understood: {error}") from error


def _as_json(agent: StoredAgent) -> dict[str, object]:
    record = agent.record
    return {
        "key": agent.key,
        "name": record.name,
        "namespace": record.namespace,
        "tenant": record.tenant,
        "updated_at": record.updated_at,
        "branches": [
            [_segment_json(segment) for segment in branch.segments] for branch in record.branches
        ],
    }


def _segment_json(segment: Segment) -> dict[str, object]:
    alias = {} if segment.alias is None else {"alias": segment.alias}
    return {"text": segment.text, "ids": segment.ids, **alias}


def _from_json(found: dict[str, object]) -> StoredAgent:
    """ValueError, KeyError or TypeError if anything is missing or of another type."""
    updated_at = found["updated_at"]
    if not isinstance(updated_at, (int, float)):
        raise TypeError("updated_at is no number")
    record = AgentRecord(
        name=_text(found["name"]),
        namespace=_text(found["namespace"]),
        branches=tuple(
            Branch(tuple(_segment(segment) for segment in _list(branch)))
            for branch in _list(found["branches"])
        ),
        updated_at=updated_at,
        tenant=tenant_id(_text(found["tenant"])),
    )
    return StoredAgent(AgentKey(_text(found["key"])), record)


def _segment(found: object) -> Segment:
    if not isinstance(found, dict):
        raise TypeError("a segment is no object")
    ids = found["ids"]
    if not _are_ids(ids):
        raise TypeError("ids are no numbers")
    alias = _text(found["alias"]) if "alias" in found else None
    return Segment(text=_text(found["text"]), ids=tuple(ids), alias=alias)


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"{found!r} is no text")
    return found


def _list(found: object) -> list[object]:
    if not isinstance(found, list):
        raise TypeError(f"{found!r} is no list")
    return found


def _are_ids(found: object) -> TypeGuard[list[int]]:
    return isinstance(found, list) and all(type(token) is int for token in found)
