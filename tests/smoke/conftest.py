"""What smoke tests share: the settings of their processes, commands, and an answer to cut short."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
COMMAND_TIMEOUT_S = 120.0
LONG_ANSWER = "Write a long story."
"""At temperature 0 the default model tells it without an end."""

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def settings(default_model_dir: Path, model_cache_dir: Path) -> dict[str, str]:
    """Environment of every process: settings for tests, the converted model, logs to be read."""
    assert default_model_dir.is_dir()
    return {
        "SEMANTIC_CONFIG": str(ROOT / "config" / "test.toml"),
        "SEMANTIC_MODEL__CACHE_DIR": str(model_cache_dir),
        "SEMANTIC_LOGGING__LEVEL": "INFO",
        "SEMANTIC_LOGGING__FORMAT": "json",
    }


def finish(
    command: Sequence[str | Path],
    settings: dict[str, str],
    *,
    stdin: str = "",
    cwd: Path | None = None,
) -> Finished:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - our own command
        command,
        cwd=cwd,
        env={**os.environ, **settings},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def reused(chat: Finished) -> list[int]:
    """What each answer of `semantic chat` reused."""
    assert chat.returncode == 0, chat.stderr
    return [int(line.split()[1]) for line in chat.stderr.splitlines() if "[reused" in line]


@contextmanager
def long_answer(url: str) -> Iterator[None]:
    """An answer that goes on for minutes; its first words have come when the block is entered."""
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": LONG_ANSWER}],
        "max_tokens": 4000,
        "temperature": 0,
        "stream": True,
    }
    headers = {"X-Agent-ID": "storyteller"}  # whose memory is on disk when it is cut short
    with httpx.stream(
        "POST", f"{url}/chat/completions", json=body, headers=headers, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        while '"content":""' in next(line for line in lines if line.startswith("data")):
            pass
        yield
