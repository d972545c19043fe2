"""Ids of calls: new, and not to be guessed. Each API puts its own prefix before them."""

import secrets
import string

_LETTERS = string.ascii_letters + string.digits
LENGTH = 24
"""Characters; as many as the ids of the APIs' own services have."""


def random_call_id() -> str:
    """An id of letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(LENGTH))
