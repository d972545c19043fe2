"""What a chat template can show, found out by trial when a model is loaded.

Templates refuse what they do not know, drop it, or move it elsewhere. Each trial is a small
conversation whose words are looked for in what comes out, in their order.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.tools import Tool, ToolCall, ToolUse


@dataclass(frozen=True, slots=True)
class Traits:
    """How a conversation has to be put to a template; without any of these, natively.

    `text_arguments`: arguments as JSON's text. `told_tools`: tools in the system's message.
    `told_calls`: calls as an answer's text; `told_after_text`, `told_several`: those that come with
    text, or are several. `told_results`: calls' results as a user's text. `told_system`: a system's
    message in the middle likewise. `no_system`: the first one as well. `alternates`: what users say
    in a row as one turn.
    """

    text_arguments: bool = False
    told_tools: bool = False
    told_calls: bool = False
    told_after_text: bool = False
    told_several: bool = False
    told_results: bool = False
    told_system: bool = False
    no_system: bool = False
    alternates: bool = False


Shows = Callable[[Conversation, Traits], bool]
"""Whether a template shows all of a conversation in its order, put to it in that way."""

PROBE = Tool("probe_tool", "Probes something.")
_USE = ToolUse((PROBE,))


def _said(role: Role, content: str, *calls: ToolCall) -> ChatMessage:
    return ChatMessage(role, content, calls=calls)


def _result(content: str, call: ToolCall) -> ChatMessage:
    return ChatMessage(Role.TOOL, content, call_id=call.id, name=call.name)


_ONE = ToolCall("1", PROBE.name, '{"probe": "one"}')
_TWO = ToolCall("2", PROBE.name, '{"probe": "two"}')
_QUESTION, _MORE = _said(Role.USER, "Probe question."), _said(Role.USER, "More probes.")
_ANSWER, _RULE = _said(Role.ASSISTANT, "Probe answer."), _said(Role.SYSTEM, "Probe rule.")
_CALLED = (_QUESTION, _said(Role.ASSISTANT, "", _ONE), _result("Result 1.", _ONE), _ANSWER)
_AGAIN = (_MORE, _said(Role.ASSISTANT, "", _TWO), _result("Result 2.", _TWO), _ANSWER, _MORE)
_TEXT = (_QUESTION, _said(Role.ASSISTANT, "Wait.", _ONE), _result("Result 1.", _ONE), _ANSWER)
_BOTH = (_QUESTION, _said(Role.ASSISTANT, "", _ONE, _TWO))
_RESULTS = (_result("Result 1.", _ONE), _result("Result 2.", _TWO), _ANSWER)

FIRST = Conversation((_RULE, _QUESTION))
USERS = Conversation((_QUESTION, _MORE, _ANSWER, _MORE))
MIDDLE = Conversation((_QUESTION, _ANSWER, _RULE, _MORE))
CALLS = Conversation((*_CALLED, *_AGAIN), _USE)
CALL_AFTER_TEXT = Conversation((*_TEXT, _MORE), _USE)
SEVERAL_CALLS = Conversation((*_BOTH, *_RESULTS, _MORE), _USE)


def find_traits(shows: Shows, known: Traits) -> Traits:
    """What is `known` with what trials add to it."""
    traits = _with(shows, known, FIRST, {"no_system": True})
    traits = _with(shows, traits, USERS, {"alternates": True})
    traits = _with(shows, traits, MIDDLE, {"told_system": True})
    calls, results = {"told_calls": True}, {"told_results": True}
    traits = _with(shows, traits, CALLS, calls, results, calls | results)
    traits = _with(shows, traits, CALL_AFTER_TEXT, {"told_after_text": True})
    return _with(shows, traits, SEVERAL_CALLS, {"told_several": True})


def _with(shows: Shows, traits: Traits, trial: Conversation, *others: dict[str, bool]) -> Traits:
    """The first way in which the trial is shown; as it was if there is none."""
    ways = (traits, *(replace(traits, **other) for other in others))
    return next((way for way in ways if shows(trial, way)), traits)
