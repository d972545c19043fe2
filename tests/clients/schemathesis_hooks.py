"""What Schemathesis is told of this server: the model's name, and short answers.

Half of all bodies keep what was made up, so that errors are answered, too.
"""

import os
from typing import Any

import schemathesis

MODEL = os.environ["SEMANTIC_SERVED_MODEL"]
TOKENS = 4
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """A request that the server can serve, where it can be one."""
    if not isinstance(body, dict) or "model" not in body:
        return body
    named = {**body, "model": MODEL}
    for name in _LENGTHS:
        if isinstance(named.get(name), int) and named[name] > TOKENS:
            named[name] = TOKENS
    return named


@schemathesis.deserializer("text/event-stream")
def whole_text(
    _context: schemathesis.DeserializationContext, response: schemathesis.Response
) -> str:
    """A stream is text; what its events are is tested by the clients that read them."""
    return response.text
