"""The wheel, installed elsewhere, is all it takes."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import semantic

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=200)  # noqa: S603 - our own command


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `semantic` in an environment that has the wheel, and borrows the libraries."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder))
    venv.create(folder / "env", with_pip=False)
    [wheel] = folder.glob("*.whl")
    [packages] = (folder / "env").glob("lib/python*/site-packages")
    python = str(folder / "env" / "bin" / "python")
    pip("--python", python, "install", "--no-deps", str(wheel))
    # Libraries alone: what makes the checkout importable is in a .pth file, which is not read here.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "semantic"


@pytest.fixture
def run(installed: Path, tmp_path: Path, model_cache_dir: Path) -> Command:
    """Run the command in an empty folder."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SEMANTIC_")}
        environment |= {
            "SEMANTIC_MODEL__CACHE_DIR": str(model_cache_dir),
            "SEMANTIC_STORE__DIR": str(tmp_path / "store"),
            "SEMANTIC_ENGINE__BLAS_THREADS": "1",
        }
        return subprocess.run(  # noqa: S603 - our own command
            [installed, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_the_version_is_the_wheels(run: Command) -> None:
    assert run("version").stdout == f"{semantic.__version__}\n"


def test_the_defaults_travel_in_the_wheel(run: Command, installed: Path) -> None:
    found = json.loads(run("config", "show", "--json").stdout)
    sources = {setting["source"] for setting in found if not setting["source"].startswith("SEM")}
    [defaults] = sources
    assert defaults.startswith(str(installed.parents[1]))
    assert Path(defaults).read_text() == (ROOT / "config" / "default.toml").read_text()


def test_the_doctor_finds_nothing_wrong(run: Command) -> None:
    done = run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    wrong = [one for one in findings.values() if one["health"] == "wrong"]
    assert (done.returncode, wrong) == (0, []), done.stderr
    assert findings["backend"]["detail"] in {"cpu", "cuda", "metal"}


def test_commands_without_an_engine_run(run: Command) -> None:
    assert run("agents", "list").returncode == 0
    assert run("chat", "--url", "http://127.0.0.1:1").returncode == 1
    assert run("serve", "--port", "x").returncode == 2
