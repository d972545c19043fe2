"""Which web pages may talk to the server, as browsers ask it (CORS).

Cookies mean nothing here, so pages are never allowed to send them (`credentials`): a key stands in
a header, which a page can only send if it has it.
"""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

ANY = "*"

_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS")
_SENT = (
    *("Authorization", "x-api-key", "api-key", "Content-Type", "Accept"),
    *("X-Agent-ID", "X-Session-ID", "X-Session-Affinity", "X-Request-ID", "X-OpenWebUI-Chat-Id"),
    *("x-claude-code-session-id", "x-claude-code-agent-id", "thread-id"),
    *("anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"),
    *("OpenAI-Organization", "OpenAI-Project", "OpenAI-Beta", "User-Agent"),
    *("Idempotency-Key", "Last-Event-ID"),
)
_STAINLESS = tuple(
    f"x-stainless-{name}"
    for name in (
        *("arch", "lang", "os", "package-version", "retry-count", "runtime"),
        *("runtime-version", "timeout", "helper", "helper-method", "poll-helper"),
        *("custom-poll-interval", "async"),
    )
)
"""What both vendors' SDKs tell of themselves."""

_READ = (
    *("X-Request-ID", "request-id", "Retry-After", "x-should-retry"),
    *(
        f"X-Semantic-{name}"
        for name in (
            *("Agent", "Prompt-Tokens", "Cached-Tokens", "Hot-Tokens", "Warm-Tokens"),
            *("First-Difference", "Miss-Cause", "Changed-Message", "Ignored"),
        )
    ),
    *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-requests-{what}" for what in ("limit", "remaining", "reset")),
)
_MAX_AGE_S = 600
"""How long a browser remembers what it was allowed; Chromium keeps to two hours at most."""


def cors(origins: tuple[str, ...]) -> list[Middleware]:
    """What answers browsers for pages of `origins`; nothing where there are none.

    It stands before whatever refuses: who is turned away is told so, and why.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=(*_SENT, *_STAINLESS),
            expose_headers=_READ,
            allow_credentials=False,
            # A page from the internet asks this before it talks to a machine at home.
            allow_private_network=True,
            max_age=_MAX_AGE_S,
        )
    ]
