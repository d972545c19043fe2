"""Names of things. Each is a `NewType`, so that one cannot stand in for another."""

import re
import sys
from typing import NewType

TokenId = int
"""A vocabulary index. Left a plain `int`: sequences of them cross every layer."""

RequestId = NewType("RequestId", str)
"""One request, as the client sees it."""

SequenceId = NewType("SequenceId", int)
"""One token sequence inside the engine."""

AgentKey = NewType("AgentKey", str)
"""Hex SHA-256 of an agent's name: what is stored, so that no name becomes a path."""

TenantId = NewType("TenantId", str)
"""Whose agents and blocks they are: stable, opaque, short. See `tenant_id`."""

KeyName = NewType("KeyName", str)
"""What an API key is called; never the key itself."""

BlockKey = NewType("BlockKey", str)
"""Hex SHA-256 over (parent key, token ids): the content address of a block within a store."""

Namespace = NewType("Namespace", str)
"""Hex SHA-256 of everything that must be equal for KV to be interchangeable."""

DEFAULT_TENANT = TenantId("default")
"""Whoever is not told apart."""

PUBLIC = TenantId("public")
"""Whose blocks all may use: what an operator publishes."""

_TENANT = re.compile(r"[a-z0-9_-]{1,64}")


def tenant_id(text: str) -> TenantId:
    """Check a tenant's id: up to 64 small letters, digits, `_` and `-`; one object for all equal.

    Raises:
        ValueError: if it is none.
    """
    if not _TENANT.fullmatch(text):
        raise ValueError(f"{text!r} is no tenant's id")
    return TenantId(sys.intern(text))
