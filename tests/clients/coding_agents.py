"""Coding agents from npm, run as their users run them without a terminal.

Each knows how it is pointed at a server and how a session is gone on with. docs/clients.md tells
users the same.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TURN_TIMEOUT_S = 420.0
"""For a turn of several requests, each a prompt of some 10,000 tokens, on two cores."""
CONTEXT = 131_072
ANSWER = 64
"""Tokens of an answer. Most of what a weak model says is noise; less of it is quicker."""


@dataclass(frozen=True)
class Place:
    """Where a client runs: nothing of it outside these folders is read or written."""

    programs: Path
    home: Path
    work: Path

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Of a user whose home is empty."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **more}


@dataclass(frozen=True)
class Turn:
    """What a client printed, and how it ended."""

    code: int
    printed: str
    complaints: str


class CodingAgent(Protocol):
    """A client in a place, pointed at a server by its folder's settings."""

    def begin(self, prompt: str) -> Turn:
        """Start a session."""

    def go_on(self, prompt: str) -> Turn:
        """Take up the last session, in a new process, where it ended."""


def _run(place: Place, command: Sequence[str], more: Mapping[str, str]) -> Turn:
    program, *arguments = command
    done = subprocess.run(  # noqa: S603 - our own command
        [str(place.programs / program), *arguments],
        cwd=place.work,
        env=place.environment(more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TURN_TIMEOUT_S,
        check=False,
    )
    return Turn(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class ClaudeCode:
    """Speaks Anthropic's Messages; `more` are variables of its environment."""

    place: Place
    url: str
    model: str
    more: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ("--allowedTools", "Read,Bash,Agent")

    def begin(self, prompt: str) -> Turn:
        """Start a session."""
        return self._turn("-p", prompt)

    def go_on(self, prompt: str) -> Turn:
        """Take up the last session."""
        return self._turn("-p", "--continue", prompt)

    def _turn(self, *arguments: str) -> Turn:
        more = {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_AUTH_TOKEN": "none",
            "ANTHROPIC_MODEL": self.model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": self.model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(ANSWER),
            **dict(self.more),
        }
        return _run(self.place, ["claude", *arguments, *self.options], more)


@dataclass(frozen=True)
class Codex:
    """Speaks OpenAI's Responses."""

    place: Place
    url: str
    model: str

    def begin(self, prompt: str) -> Turn:
        """Start a session."""
        return self._turn("exec", *self._freely(), prompt)

    def go_on(self, prompt: str) -> Turn:
        """Take up the last session."""
        return self._turn("exec", "resume", "--last", *self._freely(), prompt)

    def _freely(self) -> tuple[str, ...]:
        # Commands of the script are harmless, and a sandbox is not to be had everywhere.
        return ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")

    def _turn(self, *arguments: str) -> Turn:
        folder = self.place.home / ".codex"
        folder.mkdir(exist_ok=True)
        settings = f"""\
model = "{self.model}"
model_provider = "semantic"
model_context_window = {CONTEXT}

[model_providers.semantic]
name = "semantic"
base_url = "{self.url}/v1"
wire_api = "responses"
stream_idle_timeout_ms = 600000
"""
        (folder / "config.toml").write_text(settings)
        return _run(self.place, ["codex", *arguments], {})


@dataclass(frozen=True)
class OpenCode:
    """Speaks OpenAI's Chat Completions."""

    place: Place
    url: str
    model: str

    def begin(self, prompt: str) -> Turn:
        """Start a session."""
        return self._turn("run", prompt)

    def go_on(self, prompt: str) -> Turn:
        """Take up the last session."""
        return self._turn("run", "--continue", prompt)

    def _turn(self, *arguments: str) -> Turn:
        limits = {"context": CONTEXT, "output": ANSWER}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "semantic",
            "options": {"baseURL": f"{self.url}/v1", "apiKey": "none"},
            "models": {self.model: {"name": self.model, "limit": limits}},
        }
        settings = {
            "$schema": "https://opencode.ai/config.json",
            "model": f"semantic/{self.model}",
            "autoupdate": False,
            "share": "disabled",
            "provider": {"semantic": provider},
        }
        file = self.place.home / "opencode.json"
        file.write_text(json.dumps(settings))
        more = {
            "OPENCODE_CONFIG": str(file),
            # Nothing is fetched: lists of models, language servers.
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        }
        return _run(self.place, ["opencode", *arguments], more)
