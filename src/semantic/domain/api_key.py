"""Keys that open the API: whose they are, and how much may be asked with them.

A key's text is 256 random bits, told once. What is kept is its SHA-256, without salt and in one
round: those slow down who guesses what people chose, and nobody guesses 256 random bits.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, KeyName, TenantId

SECRET_BYTES = 32
PREFIX = "sk-semantic-"
"""By which people, and programs that look for leaked secrets, know whose key it is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What may be asked with one key. None: as the server has it for all keys; 0: no limit."""

    requests_per_minute: int | None = None
    concurrent: int | None = None
    """Requests that are answered at the same time."""

    def over(self, defaults: "KeyLimits") -> "KeyLimits":
        """These, and `defaults` where they say nothing."""
        requests, concurrent = self.requests_per_minute, self.concurrent
        return KeyLimits(
            defaults.requests_per_minute if requests is None else requests,
            defaults.concurrent if concurrent is None else concurrent,
        )


NO_LIMITS = KeyLimits(0, 0)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. `digest` is the hex SHA-256 of its text."""

    name: KeyName
    digest: str
    created_at: float
    """Seconds since the epoch."""
    tenant: TenantId = DEFAULT_TENANT
    limits: KeyLimits = KeyLimits()


def key_name(text: str) -> KeyName:
    """Check what a key is to be called: up to 64 letters, digits, `.`, `_`, `@` and `-`.

    Raises:
        InvalidRequestError: if it cannot be called that.
    """
    if not _NAME.fullmatch(text):
        raise InvalidRequestError(
            f"{text!r} is no name for a key: up to 64 letters, digits, '.', '_', '@' and '-', "
            "the first of them a letter or a digit",
            field="name",
        )
    return KeyName(text)


def spelled(secret: bytes) -> str:
    """The text of the key that `secret` makes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    return PREFIX + secret.hex()


def digest_of(text: str) -> str:
    """What is kept of a key's text, whatever that is."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def matching(keys: Iterable[ApiKey], offered: str) -> ApiKey | None:
    """The key whose text was offered. How long that takes tells nothing of any."""
    digest = digest_of(offered)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found
