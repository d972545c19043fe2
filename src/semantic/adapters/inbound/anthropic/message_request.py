"""What a client may say to the Messages API, and what that means inside.

The same translation serves generating and counting, so that both see one prompt.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from semantic.adapters.inbound.anthropic.fields import JsonObject
from semantic.adapters.inbound.anthropic.history import (
    Message,
    TextBlocks,
    referred,
    text_of,
    turns,
)
from semantic.adapters.inbound.anthropic.thinking import EffortName, Thinking, effort_of
from semantic.adapters.inbound.anthropic.tools import ToolChoice, ToolDefinition, tool_use
from semantic.adapters.inbound.identity import NO_NAMES, BodyNames
from semantic.adapters.inbound.wire import ChatsFields, OthersExtensions, Wire, json_text, only
from semantic.domain.agent import AgentId
from semantic.domain.chat import ChatMessage, Conversation, GenerationRequest, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import RequestId, TenantId
from semantic.domain.sampling import MAX_STOP_STRINGS, SamplingParams
from semantic.domain.tools import JsonAnswer

_SESSION: Final = re.compile(r"user_.*_session_(?P<session>[^_]+)")
"""How older versions of Claude Code wrote their session into the user's id."""


class JsonFormat(Wire):
    """The form that the answer's text is held to."""

    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]

    def translated(self) -> JsonAnswer:
        """The same in the domain's terms."""
        return JsonAnswer(json_text(self.schema_))


class OutputConfig(Wire):
    """`output_config`. A task's budget is a hint."""

    effort: EffortName | None = None
    format: JsonFormat | None = None


class Metadata(Wire):
    """`metadata`."""

    user_id: str | None = None


class _Session(BaseModel):
    session_id: Annotated[str, Field(min_length=1)]


_SESSIONS = TypeAdapter(_Session)


class Diagnostics(Wire):
    """`diagnostics`: asks why the prompt was not remembered."""

    previous_message_id: str | None = None


class PromptRequest(Wire):
    """The body of `POST /v1/messages/count_tokens`; all that makes the prompt."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    system: TextBlocks = Field(default_factory=list)
    tools: tuple[ToolDefinition, ...] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    # Of earlier versions: now `output_config.format`.
    output_format: JsonFormat | None = None
    mcp_servers: Annotated[JsonValue, only([])] = None
    compaction: Annotated[JsonValue, only()] = None
    context_management: JsonObject | None = None

    def conversation(self) -> Conversation:
        """The prompt in the domain's terms.

        Raises:
            InvalidRequestError: if there is nothing in it, or its tools contradict each other.
        """
        tools = self.tools or ()
        use = tool_use(tools, self.tool_choice, referred(self.messages))
        told = {tool.name: tool for tool in use.told}
        system = text_of(self.system)
        first = (ChatMessage(Role.SYSTEM, system),) if system else ()
        effort = self.output_config.effort if self.output_config else None
        return Conversation(
            first + turns(self.messages, told), use, effort_of(self.thinking, effort)
        )


class MessageRequest(ChatsFields, OthersExtensions, PromptRequest):
    """The body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOP_STRINGS)]
        | None
    ) = None
    stream: bool | None = None
    metadata: Metadata | None = None
    diagnostics: Diagnostics | None = None
    container: Annotated[JsonValue, only()] = None
    thread: Annotated[JsonValue, only()] = None
    # Chat's, which Responses has as well.
    seed: Annotated[JsonValue, only()] = None
    frequency_penalty: Annotated[JsonValue, only(0, 0.0)] = None
    presence_penalty: Annotated[JsonValue, only(0, 0.0)] = None
    min_p: Annotated[JsonValue, only(0, 0.0)] = None
    repetition_penalty: Annotated[JsonValue, only(1, 1.0)] = None

    @property
    def hides_thinking(self) -> bool:
        """Whether reasoning is only to be told as having been there."""
        return bool(self.thinking and self.thinking.display == "omitted")

    @property
    def diagnoses(self) -> bool:
        """Whether the answer is to say why it was not remembered."""
        return bool(self.diagnostics and self.diagnostics.previous_message_id)

    def names(self) -> BodyNames:
        """The session that a user's id may hold, or else the user."""
        said = self.metadata.user_id if self.metadata else None
        if not said:
            return NO_NAMES
        if found := _SESSION.fullmatch(said):
            return BodyNames(session=found["session"])
        try:
            return BodyNames(session=_SESSIONS.validate_json(said).session_id)
        except ValidationError:
            return BodyNames(user=said)

    def translated(
        self, request_id: RequestId, agent: AgentId | None, tenant: TenantId
    ) -> GenerationRequest:
        """The same in the domain's terms.

        Raises:
            InvalidRequestError: naming the field that cannot be followed.
        """
        prompt = self.conversation()
        if prompt.messages[-1].role is Role.ASSISTANT:
            raise InvalidRequestError(
                "the last message must not be the assistant's: answers are not continued here",
                field=f"messages.{len(self.messages) - 1}",
            )
        return GenerationRequest(
            request_id=request_id,
            model=self.model,
            prompt=prompt,
            sampling=self._sampling(),
            agent=agent,
            tenant=tenant,
            json=self._json(),
            as_fits=True,
            compared_to=self._compared_to(),
        )

    def _compared_to(self) -> RequestId | None:
        named = self.diagnostics.previous_message_id if self.diagnostics else None
        return RequestId(named) if named else None

    def _sampling(self) -> SamplingParams:
        return SamplingParams(
            max_tokens=self.max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or None,
            stop=tuple(self.stop_sequences or ()),
        )

    def _json(self) -> JsonAnswer | None:
        asked = (self.output_config and self.output_config.format) or self.output_format
        return asked.translated() if asked else None
