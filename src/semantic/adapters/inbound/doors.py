"""Who may come in, and from where: what the operator has decided, as one value."""

from dataclasses import dataclass

from semantic.application.access import Access
from semantic.domain.api_key import NO_LIMITS, KeyLimits


@dataclass(frozen=True, slots=True)
class Doors:
    """`limits` are those of keys that have none of their own.

    `hosts`: names that requests are addressed to, apart from addresses and this machine's own
    `localhost`; `*` is any. `origins`: of web pages that may talk to the server (CORS).
    """

    access: Access
    limits: KeyLimits = NO_LIMITS
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
