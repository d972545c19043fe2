"""Reasoning that a client carries for us, as the API's `encrypted_content`.

    semantic-reasoning-1.<the text in UTF-8, as URL-safe Base64 without padding>

It is no secret, since the client has the same text beside it; who keeps nothing here
(`store: false`) gives the reasoning back with it. What another server wrote is not understood.
"""

import base64
import binascii
from typing import Final

_HEAD: Final = "semantic-reasoning-1."


def sealed(text: str) -> str:
    """The text as such a token."""
    data = base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass"))
    return _HEAD + data.decode().rstrip("=")


def opened(token: str) -> str | None:
    """The inverse of `sealed`; None for what it does not write."""
    if not token.startswith(_HEAD):
        return None
    data = token.removeprefix(_HEAD)
    try:
        decoded = base64.b64decode(data + "=" * (-len(data) % 4), altchars=b"-_", validate=True)
        return decoded.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return None
