"""What Schemathesis is told of this server, so that more than errors is answered.

Bodies that were made up name the served model and ask for short answers. Half of them keep all
else; the other half become a plain request with some of the fields that were made up, each of which
is then looked at, instead of only the first that is wrong.
"""

import json
import os
import zlib
from typing import Any

import schemathesis

MODEL = os.environ["SEMANTIC_SERVED_MODEL"]
RESPONSE = os.environ["SEMANTIC_KEPT_RESPONSE"]
TOKENS = 4
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MESSAGES = [{"role": "user", "content": "Say hello."}]
_PLAIN: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": _MESSAGES, "max_completion_tokens": TOKENS},
    "/v1/completions": {"prompt": "Hello", "max_tokens": TOKENS},
    "/v1/messages": {"messages": _MESSAGES, "max_tokens": TOKENS},
    "/v1/messages/count_tokens": {"messages": _MESSAGES},
    "/v1/responses": {"input": _MESSAGES, "max_output_tokens": TOKENS},
    "/v1/responses/input_tokens": {"input": _MESSAGES},
}
_MADE_UP = 3
"""Fields beside those of a plain request."""


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A request that the server can serve, where it can be one."""
    plain = _PLAIN.get(context.operation.path) if context.operation else None
    if plain is None or not isinstance(body, dict):
        return body
    number = zlib.crc32(json.dumps(body, sort_keys=True, default=str).encode())
    if number % 2:
        others = sorted(set(body) - set(plain) - {"model"})
        first = number % len(others) if others else 0
        body = {**{name: body[name] for name in others[first : first + _MADE_UP]}, **plain}
    named = {**body, "model": MODEL}
    for name in set(_LENGTHS) & set(plain):
        wanted = named.get(name)
        if wanted is None or (isinstance(wanted, int) and wanted > TOKENS):
            named[name] = TOKENS
    return named


@schemathesis.hook
def map_path_parameters(_context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """Half of the time names of what there is."""
    there = {"model_id": MODEL, "response_id": RESPONSE}
    if not path_parameters or zlib.crc32(repr(path_parameters).encode()) % 2:
        return path_parameters
    return {name: there.get(name, value) for name, value in path_parameters.items()}


@schemathesis.deserializer("text/event-stream")
def whole_text(
    _context: schemathesis.DeserializationContext, response: schemathesis.Response
) -> str:
    """A stream is text; what its events are is tested by the clients that read them."""
    return response.text
