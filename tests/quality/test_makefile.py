"""What targets do beyond running a tool. Needs .venv-quality, which `make security` sets up."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GPU", "GIT_")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with this one's Makefile and hooks, and its environments."""
    for name in ("Makefile", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (".venv", ".venv-quality"):
        (tmp_path / name).symlink_to(ROOT / name)
    run(tmp_path, "git", "init", "--quiet")
    return tmp_path


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    # git tells hooks where the repository is; it would be this one's.
    environment = {name: text for name, text in os.environ.items() if not name.startswith(OUTER)}
    return subprocess.run(  # noqa: S603 - our own commands
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )


def hooks(clone: Path) -> set[str]:
    return {file.name for file in (clone / ".git" / "hooks").iterdir() if not file.suffix}


def test_clean_leaves_no_hook_that_needs_what_it_removes(clone: Path) -> None:
    as_they_are = [f"--old-file={name}/.ready" for name in (".venv", ".venv-quality")]
    run(clone, "make", *as_they_are, "dev-install")
    assert hooks(clone) == {"pre-commit", "pre-push"}
    (clone / "build").mkdir()
    run(clone, "make", "clean")
    assert hooks(clone) == set()
    assert {file.name for file in clone.iterdir()} == {
        ".git",
        ".pre-commit-config.yaml",
        "Makefile",
    }


@pytest.mark.parametrize(("flaws", "code"), [([], 0), ([{"id": "CVE-2020-1"}], 1)])
def test_a_known_vulnerability_fails_the_check(
    tmp_path: Path, flaws: list[dict[str, str]], code: int
) -> None:
    found = [flaw | {"fix_versions": ["1.1"]} for flaw in flaws]
    report = {"dependencies": [{"name": "planted", "version": "1.0", "vulns": found}]}
    # Plays pip-audit, whose service is not at hand everywhere.
    audit = tmp_path / "bin" / "pip-audit"
    audit.parent.mkdir()
    audit.write_text(f"#!/bin/sh\necho '{json.dumps(report)}'\n")
    audit.chmod(0o700)
    done = subprocess.run(  # noqa: S603 - our own check
        [ROOT / ".venv/bin/python", "-m", "project.checks.vulnerabilities", audit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("planted 1.0: CVE-2020-1, mended in 1.1" in done.stdout) == bool(flaws)


def test_clean_needs_nothing_to_be_there(clone: Path) -> None:
    run(clone, "make", "clean")
    run(clone, "make", "clean")
