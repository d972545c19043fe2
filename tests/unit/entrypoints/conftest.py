import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from semantic.entrypoints import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command line in an empty folder: exit code, output, complaints."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("SEMANTIC_"):
            monkeypatch.delenv(name)

    def main(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["semantic", *arguments])
        code = cli.run()
        out, err = capsys.readouterr()
        return code, out, err

    return main
