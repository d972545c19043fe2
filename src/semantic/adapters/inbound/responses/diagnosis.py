"""Why a prompt was not reused, in the API's words: by what differs from another response."""

from semantic.adapters.inbound.responses.kept_json import Json
from semantic.domain.chat import Started
from semantic.domain.reuse import MissCause

_COMPARED = (
    ("model", "model_changed"),
    ("tools", "tools_changed"),
    ("instructions", "input_changed"),
    ("text", "text_format_changed"),
    ("reasoning", "reasoning_effort_changed"),
)
"""What is compared, and what a difference is called; the first one counts."""

_CAUSES = {
    MissCause.OTHER_MODEL: "model_changed",
    MissCause.TOOLS_CHANGED: "tools_changed",
    MissCause.SYSTEM_CHANGED: "input_changed",
    MissCause.MESSAGES_CHANGED: "input_changed",
}

_HITS = (MissCause.CONTINUED, MissCause.ALIGNED)


def diagnosis(echo: Json, other: Json | None, started: Started) -> Json:
    """What came of reuse, compared with the response `other`; None if that is not there."""
    if other is None:
        return {"type": "comparison_response_not_found"}
    cause = started.reuse.cause
    if cause in _HITS:
        return {"type": "cache_hit"}
    differences = (word for key, word in _COMPARED if echo.get(key) != other.get(key))
    reason = next(differences, None) or (cause and _CAUSES.get(cause))
    if reason is None:
        return {"type": "unavailable"}
    return {
        "type": "cache_miss",
        "reason": reason,
        "cache_missed_tokens": started.prompt_tokens - started.cached_tokens,
        "comparison_reusable_tokens": started.cached_tokens,
    }
