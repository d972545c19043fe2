"""Every check fails when it should: each target of the Makefile meets what it must refuse.

semgrep's rules have their own test, tests/quality, since semgrep is not among the tests' packages;
the layering has test_layers.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from project.checks import bundled_libraries, vulnerabilities
from project.checks.documents import Repository

ROOT = Path(__file__).parents[2]
CLEAN = '"""Nothing to find."""\n'
MISSPELT = "Rec{}ve".format("ie")
BRANCHES = "".join(f"    if number == {n}:\n        return -{n}\n" for n in range(20, 29))
COMPLEX = f'{CLEAN}\n\ndef go(number: int) -> int:\n    """Branch."""\n{BRANCHES}    return 0\n'
LESS_COMPLEX = COMPLEX.replace(BRANCHES, BRANCHES[: len(BRANCHES) * 6 // 9])
OSI_APPROVED = "Classifier: License :: OSI Approved ::"
LAYERS = """
[tool.importlinter]
root_package = "semantic"

[[tool.importlinter.contracts]]
name = "The one layer there is"
type = "layers"
layers = ["semantic.domain"]
"""
STRUCTURE = "- `domain`: decisions\n"


@dataclass(frozen=True, slots=True)
class Project:
    """A small project that is held to this one's rules, with this one's tools."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def make(self, *targets: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run targets; what they stand on is taken as it is, never set up anew."""
        outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GPU"}
        environment = {name: value for name, value in os.environ.items() if name not in outer}
        return subprocess.run(  # noqa: S603 - our own Makefile
            ["make", "--old-file", ".venv/.ready", *targets],  # noqa: S607 - the user's make
            cwd=self.root,
            env={**environment, "PYTHONPATH": "src", **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    for package in ("src/semantic", "src/semantic/domain"):
        made.write(f"{package}/__init__.py", "")
    for name in ("src/semantic/domain/rule.py", "tests/test_rule.py", "bench/rule.py"):
        made.write(name, CLEAN)
    made.write("project/checks/rule.py", CLEAN)
    made.write("docs/structure.md", STRUCTURE)
    shutil.copy(ROOT / "Makefile", made.root)
    # The layers' contracts name modules that only the real package has.
    rules, _, _ = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")
    made.write("pyproject.toml", rules + LAYERS)
    (made.root / ".venv").symlink_to(ROOT / ".venv")
    return made


def test_a_clean_project_passes(project: Project) -> None:
    result = project.make("lint", "typecheck", "complexity")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("target", "text", "finding"),
    [
        pytest.param("lint", f"{CLEAN}\nimport os\n", "F401", id="unused"),
        pytest.param("lint", f"{CLEAN}\nkey = eval('1')\n", "S307", id="eval"),
        pytest.param(
            "lint",
            f"{CLEAN}\nimport subprocess\n\nsubprocess.run('ls', shell=True, check=True)\n",
            "S602",
            id="shell",
        ),
        pytest.param("lint", f"{CLEAN}\nkey = [\n    1\n]\n", "would be reformatted", id="format"),
        pytest.param("lint", f"{CLEAN}\n# {MISSPELT} a key.\n", "Receive", id="spelling"),
        pytest.param("lint", COMPLEX, "C901", id="complex"),
        pytest.param("complexity", COMPLEX, "C901", id="complex, apart"),
        pytest.param("complexity", LESS_COMPLEX, "(7 > 6)", id="complex for the domain"),
        pytest.param(
            "typecheck", f'{CLEAN}\nkey: int = "one"\n', "Incompatible types", id="wrong type"
        ),
        pytest.param(
            "typecheck",
            f"{CLEAN}\n\ndef go(key):\n    return key\n",
            "no-untyped-def",
            id="untyped",
        ),
    ],
)
def test_a_planted_fault_fails(project: Project, target: str, text: str, finding: str) -> None:
    project.write("src/semantic/domain/rule.py", text)
    result = project.make(target)
    assert result.returncode != 0
    assert finding in result.stdout + result.stderr


def test_elsewhere_a_function_may_be_more_complex_than_in_the_domain(project: Project) -> None:
    project.write("src/semantic/rule.py", LESS_COMPLEX)
    assert project.make("complexity").returncode == 0


@pytest.mark.parametrize(
    "told",
    [
        "License-Expression: GPL-3.0-or-later",
        "License-Expression: MIT AND LGPL-2.1-only",
        "License: AGPL-3.0",
        f"{OSI_APPROVED} GNU Lesser General Public License v3 (LGPLv3)",
        # pip-licenses takes several classifiers as a choice; here they may all hold.
        f"{OSI_APPROVED} MIT License\n{OSI_APPROVED} GNU General Public License v3 (GPLv3)",
        "License: Some Company's Terms",
        "Summary: tells no licence",
    ],
)
def test_a_planted_licence_is_refused(project: Project, tmp_path: Path, told: str) -> None:
    planted = tmp_path / "packages" / "planted-1.0.dist-info"
    planted.mkdir(parents=True)
    (planted / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: planted\nVersion: 1.0\n{told}\n"
    )
    result = project.make("licenses", PYTHONPATH=str(planted.parent))
    assert result.returncode != 0
    assert "planted:1.0" in result.stderr


def test_a_library_inside_a_wheel_must_be_known(tmp_path: Path) -> None:
    (tmp_path / "numpy.libs").mkdir()
    (tmp_path / "numpy.libs" / "libgfortran-040039e1.so.5.0.0").touch()
    assert set(bundled_libraries.bundled(tmp_path).values()) <= set(bundled_libraries.KNOWN)
    (tmp_path / "numpy.libs" / "libreadline-1a2b.so.8").touch()
    assert bundled_libraries.bundled(tmp_path)["numpy.libs/libreadline-1a2b.so.8"] == "readline"
    assert "readline" not in bundled_libraries.KNOWN


KNOWN_FLAW = {"id": "CVE-2020-1", "fix_versions": ["1.1"]}
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [KNOWN_FLAW]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "passes", "text"),
    [
        ([SOUND, FLAWED], False, "flawed 1.0: CVE-2020-1, mended in 1.1"),
        ([SOUND], True, "none known in 1 packages"),
        ([SOUND, UNKNOWN], True, "none known in 1 packages; not checked: unknown"),
        # What pip-audit itself would call a success.
        ([UNKNOWN], True, "NOT CHECKED"),
    ],
)
def test_vulnerabilities_are_judged(
    packages: list[dict[str, object]],
    *,
    passes: bool,
    text: str,
) -> None:
    verdict = vulnerabilities.judge(json.dumps({"dependencies": packages}), complaints="")
    assert (verdict.passes, text in verdict.text) == (passes, True)


@pytest.mark.parametrize(
    ("complaint", "passes", "text"),
    [
        (
            "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed",
            True,
            "NOT CHECKED",
        ),
        ("requests.exceptions.ProxyError: unable", True, "NOT CHECKED"),
        ("pip-audit: error: unrecognized arguments", False, "pip-audit failed"),
        ("", False, "pip-audit failed"),
    ],
)
def test_a_missing_network_is_said_and_any_other_failure_fails(
    complaint: str,
    *,
    passes: bool,
    text: str,
) -> None:
    verdict = vulnerabilities.judge("", complaint)
    assert (verdict.passes, text in verdict.text) == (passes, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[there](nowhere.md)", "leads to nowhere.md"),
        ("[there](structure.md#nothing)", "leads to #nothing"),
        ("![picture](nothing.svg)", "leads to nothing.svg"),
        ("```python\nfor in\n```", "does not parse"),
        ("Say `make coffee`.", "`make coffee` is not a target"),
        ("See `application/nothing.py`.", "application/nothing.py does not exist"),
    ],
)
def test_a_document_that_is_wrong_is_found(project: Project, text: str, problem: str) -> None:
    project.write("docs/planted.md", text)
    (found,) = Repository(project.root).problems()
    assert found.startswith("docs/planted.md: ")
    assert problem in found


def test_a_document_that_is_right_passes(project: Project) -> None:
    project.write(
        "docs/planted.md",
        "# One & two\n[here](#one--two) [there](structure.md) [out](https://example.org/a)\n"
        "`make test`, `domain/rule.py`\n```python\nfor one in ():\n    ...\n```\n",
    )
    assert Repository(project.root).problems() == []


def test_every_package_has_its_line(project: Project) -> None:
    project.write("src/semantic/ports/__init__.py", "")
    assert Repository(project.root).problems() == ["docs/structure.md: no line for ports"]


def checks() -> list[str]:
    """What the Makefile calls the checks."""
    found = re.search(r"^CHECKS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1].split()


def test_hooks_call_the_makefile_and_leave_no_check_out() -> None:
    hooks = re.findall(
        r"id: ([\w-]+),.*entry: (.+?),", (ROOT / ".pre-commit-config.yaml").read_text()
    )
    assert hooks == [(name, f"make {name}") for name in [*checks(), "test-unit"]]


def test_ci_runs_all_checks_and_the_command_for_tests() -> None:
    commands = re.findall(r"^make .+$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == ["make checks", "make test"]


def test_all_targets_together_use_every_tool() -> None:
    planned = Project(ROOT).make("--dry-run", "all").stdout
    for tool in (
        *("ruff check", "ruff format --check", "lint-imports", "codespell", "mypy", "C901"),
        *("semgrep scan", "pytest tests/quality", "pip-audit", "pip-licenses", "pdoc", "--cov"),
    ):
        assert tool in planned
