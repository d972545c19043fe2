"""Every rule of the project's own finds what it forbids, and lets the exceptions pass.

Needs semgrep, which is not among the tests' packages: `make security` installs it and runs this.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEMGREP = ROOT / ".venv-quality" / "bin" / "semgrep"
RULES = ROOT / ".semgrep" / "rules.yml"

STORAGE = "src/semantic/adapters/outbound/storage"
FORBIDDEN = {
    "no-mocks": (
        ("tests/fakes/planted.py", "import unittest.mock"),
        ("tests/fakes/planted.py", "from unittest.mock import MagicMock, patch"),
        ("tests/unit/test_planted.py", "from unittest import mock"),
        ("tests/unit/test_planted.py", "def test_planted(tmp_path, mocker): pass"),
    ),
    "no-code-from-data": (
        ("src/semantic/planted.py", "import pickle"),
        ("src/semantic/planted.py", "eval(given)"),
        ("bench/planted.py", "exec(given)"),
        ("bench/planted.py", "subprocess.run(given, shell=True)"),
        ("tests/unit/test_planted.py", "numpy.load(given, allow_pickle=True)"),
    ),
    "arrays-from-files-only-in-the-mlx-adapter": (
        (f"{STORAGE}/planted.py", "import mlx.core as mx; mx.load(given)"),
        ("src/semantic/application/planted.py", "from mlx import core; core.load(given)"),
        ("src/semantic/application/planted.py", "import numpy as np; np.load(given)"),
    ),
    "no-print": (
        ("src/semantic/entrypoints/planted.py", "print(given)"),
        ("src/semantic/domain/planted.py", "print()"),
    ),
    "only-commands-write-to-the-terminal": (
        ("src/semantic/application/planted.py", "import sys; sys.stdout.write(given)"),
        ("src/semantic/entrypoints/planted.py", "from sys import stderr; stderr.write(given)"),
    ),
    "no-message-contents-in-logs": (
        ("src/semantic/application/planted.py", "telemetry.info('asked', text=given)"),
        ("src/semantic/application/planted.py", "self._telemetry.error('bad', content=given)"),
        ("src/semantic/application/planted.py", "self.parts.telemetry.info('a', n=1, prompt=it)"),
        ("src/semantic/adapters/inbound/planted.py", "logger.info('a', said=request.messages)"),
    ),
    "no-bare-except": (
        ("src/semantic/application/planted.py", "try: go()\nexcept: pass"),
        ("tests/unit/test_planted.py", "try: go()\nexcept ValueError: pass\nexcept: pass"),
    ),
    "store-files-are-written-durably": (
        (f"{STORAGE}/planted.py", "import os; os.rename(one, other)"),
        (f"{STORAGE}/planted.py", "path.write_text(given)"),
        (f"{STORAGE}/planted.py", "staged.rename(target)"),
        (f"{STORAGE}/planted.py", "path.open('wb')"),
        ("src/semantic/application/planted.py", "open(path, 'a')"),
    ),
    "no-time-sleep": (
        ("src/semantic/application/planted.py", "from time import sleep; sleep(1)"),
        ("tests/unit/test_planted.py", "import time; time.sleep(0.1)"),
    ),
    "clock-and-chance-are-injected": (
        ("src/semantic/domain/planted.py", "from random import choice"),
        ("src/semantic/application/planted.py", "import time"),
        ("src/semantic/application/planted.py", "from uuid import uuid4"),
    ),
    "domain-decides-and-does-not-act": (
        ("src/semantic/domain/planted.py", "import threading"),
        ("src/semantic/domain/planted.py", "from pathlib import Path"),
        ("src/semantic/domain/planted.py", "open(given)"),
    ),
}
"""What each rule must find: where, and the code."""

ALLOWED = (
    ("src/semantic/adapters/outbound/mlx/allowed.py", "import mlx.core as mx; mx.load(given)"),
    ("src/semantic/adapters/outbound/mlx/allowed.py", "mx.eval(given); model.eval()"),
    ("src/semantic/application/allowed.py", "telemetry.info('read', key=key, tokens_read=3)"),
    ("src/semantic/application/allowed.py", "stream.put(text=given)"),
    ("src/semantic/application/allowed.py", "await agents.open(request.agent)"),
    ("src/semantic/application/allowed.py", "name.replace('a', 'b')"),
    ("src/semantic/application/allowed.py", "try: go()\nexcept BaseException: raise"),
    ("src/semantic/entrypoints/allowed.py", "console.print(given)"),
    ("src/semantic/entrypoints/commands/allowed.py", "import sys; sys.stdout.write(given)"),
    ("src/semantic/adapters/outbound/system/allowed.py", "import time, uuid"),
    (f"{STORAGE}/durable_file.py", "import os; os.write(descriptor, given)"),
    (f"{STORAGE}/store_folder.py", "staged.rename(target)"),
    (f"{STORAGE}/allowed.py", "path.open('rb')"),
    ("bench/server_process.py", "import time; time.sleep(0.05)"),
    ("tests/unit/test_allowed.py", "path.write_text('a'); print('b')"),
)
"""What looks alike and no rule may find."""

Plant = tuple[str, str]
Finding = tuple[str, Plant]


def scan(folder: Path) -> dict[str, list[str]]:
    """Rules by the file they found something in, relative to `folder`."""
    done = subprocess.run(  # noqa: S603 - our own command
        [
            *(str(SEMGREP), "scan", "--metrics=off", "--disable-version-check", "--strict"),
            *("--json", "--quiet", "--config", str(RULES), "."),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == []
    found: dict[str, list[str]] = {}
    for result in report["results"]:
        found.setdefault(result["path"], []).append(result["check_id"].rpartition(".")[2])
    return found


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> set[Finding]:
    """What one scan of all plants found; each stands in a file of its own."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / ".semgrepignore", folder)
    plants = [plant for several in FORBIDDEN.values() for plant in several]
    where: dict[str, Plant] = {}
    for number, plant in enumerate((*plants, *ALLOWED)):
        file = Path(plant[0])
        if file.name in {"planted.py", "allowed.py", "test_planted.py", "test_allowed.py"}:
            file = file.with_stem(f"{file.stem}_{number}")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"{plant[1]}\n")
        where[str(file)] = plant
    return {(rule, where[path]) for path, rules in scan(folder).items() for rule in rules}


def test_every_rule_has_a_planted_violation() -> None:
    assert set(re.findall(r"^  - id: (.+)$", RULES.read_text(), re.MULTILINE)) == set(FORBIDDEN)


@pytest.mark.parametrize(
    ("rule", "plant"), [(rule, plant) for rule, plants in FORBIDDEN.items() for plant in plants]
)
def test_a_planted_violation_is_found(rule: str, plant: Plant, findings: set[Finding]) -> None:
    assert (rule, plant) in findings


@pytest.mark.parametrize("plant", ALLOWED)
def test_what_looks_alike_passes(plant: Plant, findings: set[Finding]) -> None:
    assert [rule for rule, where in findings if where == plant] == []


def test_a_violation_fails_the_check_that_the_makefile_runs(tmp_path: Path) -> None:
    for name in ("Makefile", ".semgrepignore"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".semgrep", tmp_path / ".semgrep")
    environments = (".venv", ".venv-quality")
    for name in environments:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "planted.py").write_text("exec(given)\n")
    # The environments are taken as they are, never set up anew.
    as_they_are = [f"--old-file={name}/.ready" for name in environments]
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GPU"}
    done = subprocess.run(  # noqa: S603 - our own Makefile
        ["make", *as_they_are, "security"],  # noqa: S607 - the user's make
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in outer},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no-code-from-data" in done.stdout
    # What make would have run next.
    assert "pytest" not in done.stdout
