"""Requests recorded from real clients: each goes on where the one before it ended."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.fakes.recorded_sessions import RecordedRequest, conversations, recorded

from semantic.domain.chat import Conversation, Role
from semantic.domain.stable_prompt import ALL_RULES, Rule, stable
from semantic.domain.tools import ToolUse

AGENT = "x-claude-code-agent-id"


def asked(*requests: RecordedRequest) -> list[Conversation]:
    return asyncio.run(conversations(*requests))


def goes_on(before: Conversation, after: Conversation) -> bool:
    """Whether all of the earlier prompt stands at the beginning of the later one."""
    same = after.messages[: len(before.messages)] == before.messages
    return same and after.use.tools == before.use.tools


def by_agent(requests: list[RecordedRequest]) -> dict[str, list[RecordedRequest]]:
    found: dict[str, list[RecordedRequest]] = {}
    for request in requests:
        found.setdefault(request.headers.get(AGENT, "main"), []).append(request)
    return found


@pytest.mark.parametrize(
    ("session", "aside"),
    [
        ("claude-code", 0),
        ("claude-code-tokens", 0),
        ("codex", 0),
        ("opencode", 1),  # first it asks for a title
    ],
)
def test_every_request_goes_on_from_the_one_before(session: str, aside: int) -> None:
    found = [stable(one) for one in asked(*recorded(session)[aside:])]
    assert len(found) == 6
    assert [goes_on(*pair) for pair in pairwise(found)] == [True] * 5


def test_so_do_those_of_each_agent_among_several() -> None:
    for requests in by_agent(recorded("claude-code-subagent")).values():
        found = [stable(one) for one in asked(*requests)]
        assert all(goes_on(*pair) for pair in pairwise(found))


def test_agents_of_one_session_share_all_but_what_they_are_told() -> None:
    """Their billing headers differ, and would have been the first words of the prompt."""
    parent, agent, *_ = asked(*recorded("claude-code-subagent"))
    rules = ALL_RULES - {Rule.BILLING_HEADER}
    for one, text in ((stable(agent, rules), "x-anthropic"), (stable(agent), "You are")):
        assert one.messages[0].content.startswith(text)
    first, second = (stable(one).messages[0].content for one in (parent, agent))
    assert first.split("\n")[0] == second.split("\n")[0]


def test_reminders_of_tokens_leave_nothing_behind() -> None:
    counted, plain = (
        [stable(one) for one in asked(*recorded(session))]
        for session in ("claude-code-tokens", "claude-code")
    )
    for one, other in zip(counted, plain, strict=True):
        assert [m.role for m in one.messages] == [m.role for m in other.messages]
        assert not any("Token usage" in m.content for m in one.messages if m.role is Role.SYSTEM)


def test_system_messages_in_the_middle_stay_there() -> None:
    (first, *_) = asked(*recorded("claude-code"))
    roles = [message.role for message in stable(first).messages]
    assert roles == [Role.SYSTEM, Role.USER, Role.SYSTEM]


def test_arguments_look_alike_however_a_client_writes_them() -> None:
    """OpenCode sends them without spaces; models write them with."""
    *_, last = asked(*recorded("opencode"))
    calls = [call for message in stable(last).messages for call in message.calls]
    assert calls[1].arguments.startswith('{"command": "wc -w notes.txt", "description": ')
    sent = [call for message in last.messages for call in message.calls]
    assert sent[1].arguments.startswith('{"command":"wc')


@pytest.mark.parametrize("session", ["claude-code", "codex", "opencode"])
def test_the_order_of_keys_in_schemas_makes_no_difference(session: str) -> None:
    *_, last = asked(*recorded(session))
    turned = tuple(replace(one, parameters=backwards(one.parameters)) for one in last.use.tools)
    assert turned != last.use.tools
    assert stable(replace(last, use=ToolUse(turned))).use.tools == stable(last).use.tools


def backwards(schema: str) -> str:
    """The same with the keys of every object the other way round."""
    return json.dumps(json.loads(schema, object_pairs_hook=lambda pairs: dict(reversed(pairs))))
