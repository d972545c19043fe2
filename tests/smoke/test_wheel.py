"""The wheel, installed in an environment of its own and used in another folder, is all it takes."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from bench.server_process import ServerProcess
from packaging.requirements import Requirement
from tests.smoke.conftest import LONG_ANSWER, ROOT, Finished, finish, reused

import semantic

SHUTDOWN_TIMEOUT_S = 2.0
LEAVING_S = 10.0
"""What ending the process may take beyond the time that answers are given, on a busy machine."""
QUESTION = "My cat is called Ptolemy and my dog is called Berenice. Who is Ptolemy?\n"
Command = Callable[..., Finished]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=200)  # noqa: S603 - our own command


def asked_for(wanted: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution needs on this machine."""
    for requirement in map(Requirement, wanted.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def lend_what_is_asked_for(packages: Path) -> None:
    """Fill an environment with all that the wheel in it asks for, and nothing else.

    The files are those of the tests' own environment, so no network is needed. What semantic
    imports and its wheel does not ask for is missing here, as it would be on a user's machine.
    """
    [own] = distributions(name="semantic", path=[str(packages)])
    library, seen = Path(sysconfig.get_path("purelib")), set()
    waiting = list(asked_for(own, frozenset()))
    while waiting:
        requirement = waiting.pop()
        extras = frozenset(requirement.extras)
        if (requirement.name, extras) in seen:
            continue
        seen.add((requirement.name, extras))
        found = distribution(requirement.name)
        waiting += asked_for(found, extras)
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(library / name)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `semantic` in an environment that has the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder))
    venv.create(folder / "env", with_pip=False)
    [wheel] = folder.glob("*.whl")
    [packages] = (folder / "env").glob("lib/python*/site-packages")
    python = str(folder / "env" / "bin" / "python")
    pip("--python", python, "install", "--no-deps", str(wheel))
    lend_what_is_asked_for(packages)
    return folder / "env" / "bin" / "semantic"


@pytest.fixture
def environment(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Nothing of the checkout: an empty folder, and no variables but those returned."""
    for name in os.environ:
        if name.startswith(("SEMANTIC_", "PYTHONPATH")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    own = {
        "SEMANTIC_ENGINE__BLAS_THREADS": "1",
        "SEMANTIC_STORE__DIR": "store",
        "SEMANTIC_STORE__DURABILITY": "full",  # its server is killed once it has answered
        "SEMANTIC_SERVER__SHUTDOWN_TIMEOUT_S": str(SHUTDOWN_TIMEOUT_S),
    }
    return {name: settings[name] for name in settings.keys() - {"SEMANTIC_CONFIG"}} | own


@pytest.fixture
def run(installed: Path, environment: dict[str, str]) -> Command:
    return lambda *arguments, stdin="": finish([installed, *arguments], environment, stdin=stdin)


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


def test_an_agent_goes_on_after_its_server_was_killed(
    installed: Path, run: Command, environment: dict[str, str], tmp_path: Path
) -> None:
    server = ServerProcess(
        Path("store"), log=tmp_path / "log", settings=environment, program=[installed]
    )

    def chat() -> Finished:
        options = ["--agent", "alice", "--max-tokens", "4", "--temperature", "0"]
        return run("chat", *options, stdin=QUESTION)

    with server:
        first, again = chat(), chat()
        assert first.stdout.strip()
        assert reused(first) == [0]
        assert reused(again)[0] > 20
        server.kill()
    with server:
        resumed = chat()
        assert reused(resumed) == reused(again)
        assert {resumed.stdout, again.stdout} == {first.stdout}
        check_that_it_leaves_while_it_answers(server, installed, environment)
    assert [agent["name"] for agent in json.loads(run("agents", "list", "--json").stdout)] == [
        "alice",
        "bob",
    ]
    assert "Traceback" not in (tmp_path / "log").read_text()


def check_that_it_leaves_while_it_answers(
    server: ServerProcess, installed: Path, environment: dict[str, str]
) -> None:
    options = ["--agent", "bob", "--max-tokens", "4000", "--temperature", "0"]
    with subprocess.Popen(  # noqa: S603 - our own command
        [installed, "chat", *options],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        assert chat.stderr is not None
        chat.stdin.write(f"{LONG_ANSWER}\n")
        chat.stdin.close()
        # It is shown as it comes: there are minutes of it yet to come.
        assert chat.stdout.read(1)
        assert chat.poll() is None
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < SHUTDOWN_TIMEOUT_S + LEAVING_S
        # The answer was ended, not cut off: why it is not all is told, and that is the last of it.
        assert chat.stderr.read() == "error: The server is stopping.\n"
        assert chat.wait(LEAVING_S) == 1
