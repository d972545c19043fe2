"""How a response is written down: JSON, signed.

    {"format":"semantic-response/1","xxh3_128":"<digest of the response>","response":{...}}

The digest is taken over the response's bytes; what stands around them is compared literally, so
that every bit of a file is covered. What clients sent is text in there: it comes back letter for
letter.

Decides about bytes; does no I/O.
"""

import json
import re

import xxhash

from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import tenant_id
from semantic.domain.stored_response import ResponseId, StoredResponse

FORMAT = "semantic-response/1"

_ENVELOPE = re.compile(
    rb'\{"format":"(?P<format>[^"\\]*)","xxh3_128":"(?P<digest>[0-9a-f]{32})"'
    rb',"response":(?P<response>.*)\}\n',
    re.DOTALL,
)


def encode(response: StoredResponse) -> bytes:
    """The bytes of a response's file."""
    fields = {
        "id": response.id,
        "tenant": response.tenant,
        "created_at": response.created_at,
        "previous": response.previous,
        "first": response.first,
        "asked": response.asked,
        "answered": response.answered,
    }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    body = text.encode("utf-8", "surrogatepass")
    digest = xxhash.xxh3_128_hexdigest(body)
    head = f'{{"format":"{FORMAT}","xxh3_128":"{digest}","response":'
    return b"".join((head.encode(), body, b"}\n"))


def decode(data: bytes) -> StoredResponse:
    """The inverse of `encode`.

    Raises:
        CacheCorruptionError: if it is not, byte for byte, what `encode` writes.
        IncompatibleCacheError: if it is of another format.
    """
    envelope = _ENVELOPE.fullmatch(data)
    if envelope is None:
        raise CacheCorruptionError("not a response")
    if envelope["format"] != FORMAT.encode():
        raise IncompatibleCacheError(f"format {envelope['format']!r}, not {FORMAT}")
    body = envelope["response"]
    if xxhash.xxh3_128_hexdigest(body) != envelope["digest"].decode():
        raise CacheCorruptionError("the response differs from what was written")
    try:
        return _from_json(json.loads(body.decode("utf-8", "surrogatepass")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheCorruptionError(f"the response cannot be understood: {error}") from error


def _from_json(found: dict[str, object]) -> StoredResponse:
    """ValueError, KeyError or TypeError if anything is missing or of another type."""
    created_at, previous = found["created_at"], found["previous"]
    if not isinstance(created_at, (int, float)):
        raise TypeError("created_at is no number")
    return StoredResponse(
        id=ResponseId(_text(found["id"])),
        created_at=created_at,
        asked=_text(found["asked"]),
        answered=_text(found["answered"]),
        first=ResponseId(_text(found["first"])),
        previous=None if previous is None else ResponseId(_text(previous)),
        tenant=tenant_id(_text(found["tenant"])),
    )


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"{found!r} is no text")
    return found
