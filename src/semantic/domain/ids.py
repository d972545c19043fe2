"""Names of things. Each is a `NewType`, so that one cannot stand in for another."""

from typing import NewType

TokenId = int
"""A vocabulary index. Left a plain `int`: sequences of them cross every layer."""

RequestId = NewType("RequestId", str)
"""One request, as the client sees it."""

SequenceId = NewType("SequenceId", int)
"""One token sequence inside the engine."""

AgentKey = NewType("AgentKey", str)
"""Hex SHA-256 of an agent's name: what is stored, so that no name becomes a path."""

BlockKey = NewType("BlockKey", str)
"""Hex SHA-256 over (namespace, parent key, token ids): the content address of a block."""

Namespace = NewType("Namespace", str)
"""Hex SHA-256 of everything that must be equal for KV to be interchangeable."""
