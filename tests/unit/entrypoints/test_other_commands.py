import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import semantic
from semantic.adapters.config.sources import load_settings
from semantic.entrypoints import diagnosis
from semantic.entrypoints.diagnosis import Finding, Health

Run = Callable[..., tuple[int, str, str]]


def test_the_version_for_programs(run: Run) -> None:
    assert json.loads(run("version", "--json")[1]) == {"version": semantic.__version__}


def test_help_tells_exit_codes(run: Run) -> None:
    out = " ".join(run("--help")[1].split())
    assert "0 done; 1 failed" in out
    assert "2 wrong usage or settings" in out


@pytest.mark.parametrize("group", ["agents", "models", "config"])
def test_a_group_alone_shows_its_commands(run: Run, group: str) -> None:
    code, out, err = run(group)
    assert code == 2
    assert "show" in out + err or "list" in out + err


@pytest.mark.parametrize(
    ("words", "completed"),
    [("semantic ag", ["agents"]), ("semantic agents ", ["list", "show", "delete"])],
)
def test_shells_complete_commands(words: str, completed: list[str]) -> None:
    asked = {
        "_SEMANTIC_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(  # noqa: S603 - our own command
        [Path(sys.executable).with_name("semantic")],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == completed


def test_settings_are_shown_with_their_sources(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[server]\nhost = '::1'\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = run("config", "show", "--config", str(config))[1].splitlines()
    rows = {line.split()[0]: line for line in shown}
    assert rows["server.host"].split()[1:] == ["::1", str(config)]
    assert f'"", so {tmp_path}' in rows["store.dir"]
    found = json.loads(run("config", "show", "--config", str(config), "--json")[1])
    assert {row["key"] for row in found} == set(rows) - {"SETTING"}
    assert {"key": "server.host", "value": "::1", "source": str(config)} in found


def test_settings_are_shown_as_a_server_with_these_options_would_have_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMANTIC_SERVER__PORT", "1")
    options = ["--model", "m", "--host", "::1", "--port", "2", "--store", "kv"]
    code, out, _ = run("config", "show", *options, "--log-level", "error", "--json")
    said = {row["key"]: row["value"] for row in json.loads(out) if "command" in row["source"]}
    assert code == 0
    assert said == {
        "server.host": "::1",
        "server.port": 2,
        "model.id": "m",
        "store.dir": "kv",
        "logging.level": "ERROR",
    }
    assert "the command line" in run("config", "show", *options)[1]


@pytest.mark.parametrize("command", [["config", "show"], ["agents", "list"], ["doctor"]])
def test_a_wrong_setting_is_bad_usage_everywhere(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SEMANTIC_SERVR__PORT", "1")
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err == "error: SEMANTIC_SERVR__PORT in the environment: there is no such setting\n"


def found(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(diagnosis, "diagnose", lambda _settings: iter(findings))


def test_the_doctor_tells_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found(
        monkeypatch,
        Finding("a", Health.OK, "fine"),
        Finding("b", Health.WARNING, "slow", "hurry"),
        Finding("c", Health.WRONG, "broken", "mend it"),
    )
    code, out, _ = run("doctor")
    assert code == 1
    assert out.splitlines() == [
        "ok      a: fine",
        "warning b: slow",
        "        -> hurry",
        "wrong   c: broken",
        "        -> mend it",
    ]


def test_the_doctor_looks_for_the_model_that_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        diagnosis, "diagnose", lambda given: iter([Finding("model", Health.OK, given.model.id)])
    )
    assert run("doctor", "--model", "m") == (0, "ok      model: m\n", "")


def test_warnings_alone_are_no_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Finding("b", Health.WARNING, "slow", "hurry"))
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert json.loads(out) == [
        {"name": "b", "health": "warning", "detail": "slow", "advice": "hurry"}
    ]


class TestDiagnosis:
    @pytest.fixture
    def findings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], dict[str, Finding]]:
        monkeypatch.setattr(diagnosis, "_matmul", lambda: Finding("matmul", Health.OK, ""))
        given = {
            "store": {"dir": str(tmp_path / "kv")},
            "model": {"id": "/no/model", "cache_dir": str(tmp_path / "cache")},
            "engine": {"blas_threads": 1},
        }
        settings = load_settings(given, env_file=None)
        return lambda: {one.name: one for one in diagnosis.diagnose(settings)}

    def test_everything_is_looked_at_and_nothing_is_made(
        self, findings: Callable[[], dict[str, Finding]], tmp_path: Path
    ) -> None:
        seen = findings()
        assert list(seen) == [
            *("blas", "backend", "matmul", "model", "store"),
            *("cache", "disk speed", "free disk", "memory"),
        ]
        assert seen["store"].health is Health.OK
        assert list(tmp_path.iterdir()) == []

    def test_a_model_that_is_not_there_is_wrong(
        self, findings: Callable[[], dict[str, Finding]]
    ) -> None:
        assert findings()["model"].health is Health.WRONG

    @pytest.mark.parametrize(
        ("mode", "health"),
        [(0o700, Health.OK), (0o750, Health.WARNING), (0o770, Health.WRONG)],
    )
    def test_a_store_that_others_can_reach(
        self,
        findings: Callable[[], dict[str, Finding]],
        tmp_path: Path,
        mode: int,
        health: Health,
    ) -> None:
        (tmp_path / "kv").mkdir()
        (tmp_path / "kv").chmod(mode)
        assert findings()["store"].health is health

    def test_a_store_that_is_a_file_is_wrong(
        self, findings: Callable[[], dict[str, Finding]], tmp_path: Path
    ) -> None:
        (tmp_path / "kv").write_text("")
        seen = findings()
        assert seen["store"].health is Health.WRONG
        assert seen["disk speed"].health is Health.WRONG

    def test_everything_that_is_not_well_says_what_to_do(
        self, findings: Callable[[], dict[str, Finding]]
    ) -> None:
        for one in findings().values():
            assert (one.advice is None) == (one.health is Health.OK)
