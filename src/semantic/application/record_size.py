"""What an agent's record takes when it is written down, told before it is."""

import json

from semantic.domain.agent import AgentRecord, Segment

_AROUND_RECORD = 1024
"""Bytes beside name and branches: digest, key, namespace, tenant."""
_AROUND_SEGMENT = 32


def record_size(record: AgentRecord) -> int:
    """Bytes, rather too many than too few."""
    segments = (segment for branch in record.branches for segment in branch.segments)
    return _AROUND_RECORD + _text(record.name) + sum(map(_segment, segments))


def _segment(segment: Segment) -> int:
    digits = len(str(max(segment.ids, default=0)))
    return _AROUND_SEGMENT + _text(segment.text) + len(segment.ids) * (digits + 1)


def _text(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))
