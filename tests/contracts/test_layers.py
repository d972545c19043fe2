"""The layering is a check, not a hope: a planted violation must make it fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy_of_the_source(tmp_path: Path) -> Path:
    """The package and the contracts, apart from the checkout."""
    shutil.copytree(
        ROOT / "src" / "semantic",
        tmp_path / "semantic",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(  # noqa: S603 - our own command
        [str(command), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_layers_are_kept(copy_of_the_source: Path) -> None:
    result = lint(copy_of_the_source)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("domain/sequence.py", "import numpy"),
        ("ports/clock.py", "from mlx import core"),
        ("application/scheduler.py", "import pydantic"),
        ("domain/chat.py", "from semantic.ports import clock"),
        ("ports/clock.py", "from semantic.application import scheduler"),
        ("application/scheduler.py", "from semantic.adapters.outbound.storage import block_files"),
        ("adapters/inbound/health.py", "from semantic.adapters.outbound import mlx"),
        ("adapters/config/settings.py", "from semantic.entrypoints import cli"),
        ("surplus/__init__.py", "ROOM = 'that no layer allows'"),
    ],
)
def test_a_planted_violation_is_found(copy_of_the_source: Path, module: str, line: str) -> None:
    target = copy_of_the_source / "semantic" / module
    target.parent.mkdir(exist_ok=True)
    before = target.read_text() if target.exists() else ""
    target.write_text(f"{before}\n{line}\n")
    assert lint(copy_of_the_source).returncode != 0
