import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import semantic
from semantic.adapters.config.settings import Settings, SettingsError
from semantic.domain.errors import ModelNotFoundError, StoreLockedError
from semantic.entrypoints import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers were started with; none really starts."""
    settings: list[Settings] = []
    server = SimpleNamespace(serve=lambda one, _signals: settings.append(one))
    monkeypatch.setitem(sys.modules, "semantic.entrypoints.server", server)
    monkeypatch.setattr("semantic.entrypoints.server", server, raising=False)
    return settings


def fail_to_serve(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def serve(_settings: Settings, _signals: object) -> None:
        raise error

    server = SimpleNamespace(serve=serve)
    monkeypatch.setitem(sys.modules, "semantic.entrypoints.server", server)
    monkeypatch.setattr("semantic.entrypoints.server", server, raising=False)


@pytest.mark.parametrize("spelled", ["version", "--version"])
def test_the_version_is_printed(run: Run, spelled: str) -> None:
    assert run(spelled) == (0, f"{semantic.__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["agents"], ["agents", "show"]])
def test_help_may_be_asked_for_in_short(run: Run, command: list[str]) -> None:
    long = run(*command, "--help")
    assert long[0] == 0
    assert "Usage: " in long[1]
    assert run(*command, "-h") == long


def test_the_version_needs_no_server() -> None:
    code = (
        "import sys; from semantic.entrypoints import cli;"
        "print([m for m in ('mlx', 'fastapi', 'pydantic', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603 - our own code
    assert done.stdout.strip() == "[]"


def test_options_become_settings(run: Run, served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[server]\nport = 1\n[engine]\nmax_batch = 3\n")
    options = ["--model", "m", "--host", "::1", "--port", "0", "--store", "kv"]
    assert run("serve", *options, "--config", str(config), "--log-level", "debug")[0] == 0
    [settings] = served
    assert settings.model.id == "m"
    assert (settings.server.host, settings.server.port) == ("::1", 0)
    assert settings.store.dir == "kv"
    assert settings.logging.level == "DEBUG"
    assert settings.engine.max_batch == 3


def test_without_options_the_defaults_are_served(run: Run, served: list[Settings]) -> None:
    assert run("serve")[0] == 0
    assert served[0].server.port == 8000


def test_a_bad_setting_is_bad_usage(run: Run, served: list[Settings]) -> None:
    code, out, err = run("serve", "--port", "70000")
    assert (code, out, served) == (2, "", [])
    assert err.startswith("error: server.port: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["serve", "--port", "x"], ["serve", "--nope"], ["nope"]])
def test_a_bad_option_is_bad_usage(run: Run, served: list[Settings], arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2
    assert served == []


@pytest.mark.parametrize(
    "error",
    [StoreLockedError("[/tmp/kv] is in use" + "!" * 200), ModelNotFoundError("m", tried=("a",))],
)
def test_a_mistake_is_told_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_to_serve(monkeypatch, error)
    assert run("serve") == (1, "", f"error: {error}\n")


def test_what_the_system_refuses_is_told_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_serve(monkeypatch, PermissionError(13, "Permission denied", "/x"))
    assert run("serve") == (1, "", "error: [Errno 13] Permission denied: '/x'\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has such a device")
def test_output_that_cannot_be_written_is_told_without_a_traceback() -> None:
    command = [str(Path(sys.executable).with_name("semantic")), "version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)  # noqa: S603 - our own command
    assert done.returncode == 1
    assert done.stderr == b"error: [Errno 28] No space left on device\n"


def test_a_setting_that_turns_out_to_be_bad_is_bad_usage(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_serve(monkeypatch, SettingsError("server.port is taken"))
    assert run("serve") == (2, "", "error: server.port is taken\n")


def test_a_bug_is_not_told_as_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fail_to_serve(monkeypatch, KeyError("bug"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["semantic", "serve"])
    with pytest.raises(KeyError):
        cli.run()
