"""JSON as the lines of a stream carry it."""

import json

Json = dict[str, object]


def encoded(value: Json) -> str:
    """One line of JSON in ASCII: no character in it ends a line for any client."""
    return json.dumps(value, separators=(",", ":"))
