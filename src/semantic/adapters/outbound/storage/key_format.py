"""How API keys are written down: JSON, signed.

    {"format":"semantic-keys/1","xxh3_128":"<digest of the list>","keys":[...]}

The digest is taken over the list's bytes, and finds damage, not deceit: who can write the file
can make keys. Decides about bytes; does no I/O.
"""

import json
import re
from collections.abc import Sequence

import xxhash

from semantic.domain.api_key import ApiKey, KeyLimits, key_name
from semantic.domain.errors import (
    CacheCorruptionError,
    IncompatibleCacheError,
    InvalidRequestError,
)
from semantic.domain.ids import tenant_id

FORMAT = "semantic-keys/1"

_ENVELOPE = re.compile(
    rb'\{"format":"(?P<format>[^"\\]*)","xxh3_128":"(?P<digest>[0-9a-f]{32})"'
    rb',"keys":(?P<keys>.*)\}\n',
    re.DOTALL,
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def encode(keys: Sequence[ApiKey]) -> bytes:
    """The bytes of the file."""
    listed = json.dumps([_as_json(key) for key in keys], separators=(",", ":")).encode()
    digest = xxhash.xxh3_128_hexdigest(listed)
    head = f'{{"format":"{FORMAT}","xxh3_128":"{digest}","keys":'
    return b"".join((head.encode(), listed, b"}\n"))


def decode(data: bytes) -> tuple[ApiKey, ...]:
    """The inverse of `encode`.

    Raises:
        CacheCorruptionError: if it is not, byte for byte, what `encode` writes.
        IncompatibleCacheError: if it is of another format.
    """
    envelope = _ENVELOPE.fullmatch(data)
    if envelope is None:
        raise CacheCorruptionError("it is no list of keys")
    if envelope["format"] != FORMAT.encode():
        raise IncompatibleCacheError(f"its format is {envelope['format']!r}, not {FORMAT}")
    if xxhash.xxh3_128_hexdigest(envelope["keys"]) != envelope["digest"].decode():
        raise CacheCorruptionError("it differs from what was written")
    try:
        return tuple(_from_json(found) for found in json.loads(envelope["keys"]))
    except (ValueError, KeyError, TypeError, RecursionError, InvalidRequestError) as error:
        raise CacheCorruptionError(f"it cannot be understood: {error}") from error


def _as_json(key: ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "sha256": key.digest,
        "created_at": key.created_at,
        "tenant": key.tenant,
        "requests_per_minute": key.limits.requests_per_minute,
        "concurrent": key.limits.concurrent,
    }


def _from_json(found: dict[str, object]) -> ApiKey:
    """ValueError, KeyError or TypeError if anything is missing or of another type."""
    created_at, digest = found["created_at"], found["sha256"]
    if not isinstance(created_at, (int, float)):
        raise TypeError("created_at is no number")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise TypeError("sha256 is no digest")
    return ApiKey(
        name=key_name(str(found["name"])),
        digest=digest,
        created_at=created_at,
        tenant=tenant_id(str(found["tenant"])),
        limits=KeyLimits(_limit(found["requests_per_minute"]), _limit(found["concurrent"])),
    )


def _limit(found: object) -> int | None:
    if found is not None and (type(found) is not int or found < 0):
        raise TypeError(f"{found!r} is no limit")
    return found if isinstance(found, int) else None
