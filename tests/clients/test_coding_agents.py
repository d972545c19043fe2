"""Coding agents, each through a session: three turns, with SIGKILL before the last."""

import pytest
from tests.clients.coding_agents import ClaudeCode, Codex, CodingAgent, OpenCode, Place, Turn
from tests.clients.conftest import ANSWER, ScriptedServer, Server
from tests.clients.served_requests import session, table

REUSED, REUSED_AFTER_KILL = 0.95, 0.80
COMMAND = "wc -w notes.txt"


def completed(turn: Turn) -> None:
    assert turn.code == 0, turn
    assert ANSWER in turn.printed, turn


def play(client: CodingAgent, server: Server, name: str) -> None:
    """A session; what it may compute again is little."""
    completed(client.begin("How many words has notes.txt, and what do they say?"))
    first_turn = session(server.served)
    # The model answers only where it sees the result of its call.
    assert [one.end for one in first_turn] == ["tool_calls", "stop"]
    completed(client.go_on("And on which day is the meeting?"))
    before = server.served
    server.restart_after_kill()
    completed(client.go_on("Say it once more."))
    after = server.served[len(before) :]
    print(table(f"{name}, two turns", before))  # noqa: T201 - figures for people
    print(table(f"{name}, after SIGKILL", after))  # noqa: T201 - figures for people
    assert len(session(before)) == 3
    assert min(one.reused for one in session(before)[1:]) >= REUSED
    assert session(after)[0].reused >= REUSED_AFTER_KILL


@pytest.mark.timeout(900)
def test_claude_code_completes_a_session(place: Place, scripted_server: ScriptedServer) -> None:
    server = scripted_server("Bash", {"command": COMMAND, "description": "Count words"})
    play(ClaudeCode(place, server.url, server.model), server, "Claude Code")


@pytest.mark.timeout(900)
def test_codex_completes_a_session(place: Place, scripted_server: ScriptedServer) -> None:
    server = scripted_server("exec_command", {"cmd": COMMAND})
    play(Codex(place, server.url, server.model), server, "Codex")


@pytest.mark.timeout(900)
def test_opencode_completes_a_session(place: Place, scripted_server: ScriptedServer) -> None:
    server = scripted_server("bash", {"command": COMMAND})
    play(OpenCode(place, server.url, server.model), server, "OpenCode")
