"""Values that a client may say to Responses, by themselves, and what they mean inside."""

import json
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, JsonValue
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.responses.kept_json import FiniteJson, Json
from semantic.adapters.inbound.wire import (
    EFFORTS,
    ChatsFields,
    EffortName,
    OthersExtensions,
    Wire,
    only,
)
from semantic.domain.chat import Effort
from semantic.domain.sampling import MAX_LOGPROBS, SEED_BITS
from semantic.domain.tools import JsonAnswer

_NOT: Final = False

_MAX_PAIRS: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512
"""Of metadata, as the specification has it."""


Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
"""What may be asked to be told besides. Of what there never is, there is nothing to tell."""


def bounded(pairs: dict[str, str] | None) -> dict[str, str] | None:
    """Refuse more metadata than the specification allows."""
    if len(pairs or {}) > _MAX_PAIRS:
        raise PydanticCustomError("too_many", f"at most {_MAX_PAIRS} pairs are allowed")
    for key, value in (pairs or {}).items():
        if len(key) > _MAX_KEY or len(value) > _MAX_VALUE:
            message = f"keys have at most {_MAX_KEY} characters and values {_MAX_VALUE}"
            raise PydanticCustomError("too_long", message)
    return pairs


class PlainText(Wire):
    """No form."""

    type: Literal["text"] = "text"


class JsonObject(Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Wire):
    """JSON of a schema, which is held to in any case, `strict` or not."""

    type: Literal["json_schema"]
    name: str
    schema_: Annotated[dict[str, FiniteJson], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class Text(Wire):
    """The form of the answer's text. `verbosity` is a hint that no model here understands."""

    format: Annotated[PlainText | JsonObject | JsonSchema, Discriminator("type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def form(self) -> JsonAnswer | None:
        """The same in the domain's terms."""
        match self.format:
            case JsonObject():
                return JsonAnswer()
            case JsonSchema(schema_=schema):
                return JsonAnswer(json.dumps(schema, ensure_ascii=False))
            case _:
                return None

    def echoed(self) -> Json:
        """What a response repeats of it."""
        form: Json = (self.format or PlainText()).model_dump(mode="json", by_alias=True)
        return {"format": form, "verbosity": self.verbosity or "medium"}


class ReasoningChoice(Wire):
    """How much to reason. Reasoning is told as it is, whatever summary is asked for."""

    effort: EffortName | None = None
    # All earlier reasoning is there for the template, which chooses what a model is shown.
    context: Annotated[JsonValue, only("auto", "all_turns")] = None
    mode: Annotated[JsonValue, only("standard")] = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None

    def asked(self) -> Effort | None:
        """The same in the domain's terms."""
        return EFFORTS[self.effort] if self.effort else None

    def echoed(self) -> Json:
        """What a response repeats of it."""
        return {"effort": self.effort, "summary": self.summary}


class CacheOptions(Wire):
    """`prewarm` asks for no answer; the others are hints, or ask for a diagnosis."""

    prewarm: bool | None = None
    comparison_response_id: str | None = None
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None


class NotSupported(ChatsFields, OthersExtensions):
    """Fields that would change the answer; each with the values that would not."""

    max_tokens: Annotated[JsonValue, only()] = None

    background: Annotated[JsonValue, only(_NOT)] = None
    background_options: Annotated[JsonValue, only()] = None
    access_programs: Annotated[JsonValue, only([])] = None
    conversation: Annotated[JsonValue, only()] = None
    prompt: Annotated[JsonValue, only()] = None
    context_management: Annotated[JsonValue, only([])] = None
    moderation: Annotated[JsonValue, only()] = None


class Sampling(Wire):
    """How tokens are chosen. Ranges are checked by the domain, which calls them the same."""

    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    # Of Open Responses.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # Extensions that other local servers have, too.
    seed: Annotated[int, Field(ge=-(2**63), lt=2**SEED_BITS)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
