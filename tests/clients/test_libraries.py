"""Libraries that people build agents with: one loop with a tool each."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import ANSWER, PROGRAMS, ScriptedServer, Server, run_program

ARGUMENTS = {"city": "Paris", "days": 1}
CITIES = {"Paris", "London", "Rome"}


def reports(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def in_node(clients: Path, program: str, server: Server) -> list[dict[str, Any]]:
    # Node looks for packages beside a program, and only there.
    folder = clients / "node" / "programs"
    shutil.copytree(PROGRAMS, folder, dirs_exist_ok=True)
    return reports(run_program(["node", program, server.url, server.model], folder))


@pytest.mark.parametrize(
    ("program", "finish"),
    [
        ("openai_chat.mjs", "tool_calls"),
        ("openai_responses.mjs", "completed"),
        ("anthropic_messages.mjs", "tool_use"),
    ],
)
@pytest.mark.timeout(400)
def test_vendors_sdks_for_node_make_two_turns_with_a_call(
    program: str, finish: str, clients: Path, default_server: Server
) -> None:
    found = in_node(clients, program, default_server)
    assert [one["streamed"] for one in found] == [False, True]
    for one in found:
        # The model is too weak for tools: that it calls, and how, is what it is held to.
        assert one["finish"] == finish
        assert one["name"] == "get_weather"
        assert one["arguments"]["city"] in CITIES
        assert one["arguments"]["days"] in range(1, 8)
        assert one["text"]
        assert 0 < one["cached"] < one["prompt"]
        assert one.get("counted", one["prompt"]) == one["prompt"]


@pytest.mark.parametrize(
    ("program", "loops"),
    [("langchain_agents.py", 6), ("pydantic_ai_agents.py", 6), ("openai_agents.py", 4)],
)
@pytest.mark.timeout(400)
def test_frameworks_call_a_tool_and_answer(
    program: str, loops: int, clients: Path, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    server = scripted_server("get_weather", ARGUMENTS)
    command = [str(clients / "bin" / "python"), str(PROGRAMS / program), server.url, server.model]
    found = reports(run_program(command, tmp_path))
    assert found == [{"calls": [["Paris", 1]], "text": ANSWER}] * loops
