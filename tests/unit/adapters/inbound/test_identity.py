from collections.abc import Iterator
from typing import get_args

import pytest
import structlog
from starlette.requests import Request
from tests.fakes.guarded_app import GuardedApp

from semantic.adapters.config.settings import Hint
from semantic.adapters.config.sources import load_settings
from semantic.adapters.inbound.identity import (
    HINTS,
    NAMED_BY,
    NO_NAMES,
    BodyNames,
    NamedBy,
    agent_of,
)
from semantic.domain.errors import InvalidRequestError

CLAUDE, SUBAGENT = "x-claude-code-session-id", "x-claude-code-agent-id"
EVERYTHING = {
    "X-Agent-ID": "own",
    CLAUDE: "c",
    SUBAGENT: "sub",
    "thread-id": "t",
    "X-Session-ID": "s",
    "X-Session-Affinity": "a",
    "X-OpenWebUI-Chat-Id": "o",
}
NAMES = BodyNames(cache_key="k", session="m", user="u")
IN_ORDER = [
    *("own", "claude:c/sub", "codex:t", "session:s", "affinity:a", "openwebui:o"),
    *("cache-key:k", "metadata:m", "user:u"),
]
USELESS = ["", "  ", "x" * 300, "a\x01b", "../x", "a\u2028b".encode().decode("latin-1")]


@pytest.fixture(autouse=True)
def nothing_left_for_other_tests() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()


def named(
    headers: dict[str, str] | list[tuple[str, str]],
    names: BodyNames = NO_NAMES,
    named_by: NamedBy = NAMED_BY,
) -> str | None:
    pairs = headers.items() if isinstance(headers, dict) else headers
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    state = {"named_by": named_by}
    agent = agent_of(Request({"type": "http", "headers": raw, "state": state}), names)
    return None if agent is None else agent.name


def test_who_names_nothing_is_anonymous() -> None:
    assert named({}) is None
    assert named({SUBAGENT: "alone"}) is None


def test_the_first_of_all_names_wins() -> None:
    headers, names, found = dict(EVERYTHING), NAMES, []
    gone = ["X-Agent-ID", CLAUDE, "thread-id", "X-Session-ID", "X-Session-Affinity"]
    for header in (*gone, "X-OpenWebUI-Chat-Id"):
        found.append(named(headers, names))
        del headers[header]
    fewer = (names, BodyNames(session="m", user="u"), BodyNames(user="u"))
    found.extend(named(headers, left) for left in fewer)
    assert found == IN_ORDER


def test_a_session_of_claude_code_has_an_agent_that_no_header_names() -> None:
    assert named({CLAUDE: "c"}) == "claude:c/main"
    assert named({CLAUDE: "c", SUBAGENT: " "}) == "claude:c/main"


def test_a_session_cannot_pass_for_anothers_subagent() -> None:
    assert named({CLAUDE: "c/sub"}) != named({CLAUDE: "c", SUBAGENT: "sub/main"})


def test_equal_ids_of_different_kinds_are_different_agents() -> None:
    headers = ["thread-id", "X-Session-ID", "X-Session-Affinity", "X-OpenWebUI-Chat-Id"]
    found = [named({name: "same"}) for name in headers]
    found += [named({}, BodyNames(**{key: "same"})) for key in ("cache_key", "session", "user")]
    found += [named({"X-Agent-ID": "same"}), named({CLAUDE: "same"})]
    assert None not in found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("useless", USELESS)
def test_a_hint_that_cannot_be_a_name_is_skipped(useless: str) -> None:
    for header in (CLAUDE, "thread-id", "X-Session-ID", "X-OpenWebUI-Chat-Id"):
        assert named({header: useless}, BodyNames(user="u")) == "user:u", header
    names = BodyNames(cache_key=useless.encode("latin-1").decode(), session="", user="u")
    assert named({}, names) == "user:u"


def test_what_is_skipped_is_told_without_its_text() -> None:
    with structlog.testing.capture_logs() as told:
        named({"X-Session-ID": "secret\x01"})
    [line] = told
    assert (line["log_level"], line["hint"]) == ("debug", "session-id")
    assert "secret" not in str(line)


def test_a_hint_that_is_there_twice_is_skipped_unless_it_says_the_same() -> None:
    twice = [("x-session-id", "a"), ("x-session-id", "b"), ("thread-id", "t"), ("thread-id", "t")]
    assert named(twice) == "codex:t"
    assert named(twice[:2]) is None


@pytest.mark.parametrize("useless", [*USELESS, "\xff" * 257])
def test_our_own_header_is_an_order(useless: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        named({"X-Agent-ID": useless, "thread-id": "t"})
    assert refused.value.field == "X-Agent-ID"


def test_our_own_header_is_there_once() -> None:
    with pytest.raises(InvalidRequestError, match="more than once"):
        named([("x-agent-id", "a"), ("x-agent-id", "a")])


def test_a_name_may_be_any_text() -> None:
    assert named({"X-Session-ID": "zoë 🦜".encode().decode("latin-1")}) == "session:zoë 🦜"
    assert named({"X-Session-ID": "zo\xeb"}) == "session:zoë"


def test_each_hint_can_be_switched_off() -> None:
    headers = {name: value for name, value in EVERYTHING.items() if name != "X-Agent-ID"}
    for hint in NAMED_BY:
        rest = tuple(other for other in NAMED_BY if other != hint)
        alone, without = named(headers, NAMES, (hint,)), named(headers, NAMES, rest)
        assert alone == IN_ORDER[1 + NAMED_BY.index(hint)]
        assert without != alone
    assert named(headers, NAMES, ()) is None
    assert named(EVERYTHING, NAMES, ()) == "own"


def test_the_operator_may_prefer_another_order() -> None:
    assert named(EVERYTHING | {"X-Agent-ID": "own"}, NAMES, ("user", "codex")) == "own"
    del (rest := dict(EVERYTHING))["X-Agent-ID"]
    assert named(rest, NAMES, ("user", "codex")) == "user:u"


def test_the_settings_know_every_hint() -> None:
    assert get_args(Hint) == tuple(HINTS)
    assert load_settings(env_file=None).agents.hints == NAMED_BY


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("X-Agent-ID: alice", "alice"),
        ("X-Session-ID: s1", "session:s1"),
        ("X-Agent-ID: zoë/1 🦜", "zo%C3%AB/1 %F0%9F%A6%9C"),
        ("X-Agent-ID: 100%", "100%25"),
    ],
)
def test_an_answer_tells_under_which_name_it_is_remembered(sent: str, told: str) -> None:
    name, _, value = sent.partition(": ")
    assert GuardedApp().ask(headers=[(name, value)]).headers["X-Semantic-Agent"] == told


def test_an_anonymous_answer_tells_no_name() -> None:
    assert "X-Semantic-Agent" not in GuardedApp().ask().headers
