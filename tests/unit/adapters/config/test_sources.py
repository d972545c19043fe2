from pathlib import Path

import pytest

from semantic.adapters.config.settings import SettingsError
from semantic.adapters.config.sources import default_config, load_settings

PORT = "SEMANTIC_SERVER__PORT"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_each_source_wins_over_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    default = load_settings().server.port
    config = write(tmp_path / "my.toml", "[server]\nport = 1001\n")
    seen = [default, load_settings(config=config).server.port]
    write(tmp_path / ".env", f"{PORT}=1002\n")
    seen.append(load_settings(config=config).server.port)
    monkeypatch.setenv(PORT, "1003")
    seen.append(load_settings(config=config).server.port)
    seen.append(load_settings({"server": {"port": 1004}}, config=config).server.port)
    assert seen == [8000, 1001, 1002, 1003, 1004]


def test_a_source_changes_only_the_keys_it_has(tmp_path: Path) -> None:
    config = write(tmp_path / "my.toml", "[server]\nport = 1001\n")
    changed, default = load_settings(config=config), load_settings()
    assert changed.server.host == default.server.host
    assert changed.store == default.store


def test_a_variable_may_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEMANTIC_CONFIG", str(write(tmp_path / "a.toml", "[server]\nport = 1\n")))
    assert load_settings().server.port == 1
    named = write(tmp_path / "b.toml", "[server]\nport = 2\n")
    assert load_settings(config=named).server.port == 2


def test_the_env_file_may_name_the_file(tmp_path: Path) -> None:
    config = write(tmp_path / "a.toml", "[server]\nport = 1\n")
    write(tmp_path / ".env", f"SEMANTIC_CONFIG={config}\n")
    assert load_settings().server.port == 1


@pytest.mark.parametrize("from_env_file", [True, False])
def test_a_file_that_a_variable_names_may_be_at_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, from_env_file: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.toml", "[server]\nport = 1\n")
    if from_env_file:
        write(tmp_path / ".env", "SEMANTIC_CONFIG=~/a.toml\n")
    else:
        monkeypatch.setenv("SEMANTIC_CONFIG", "~/a.toml")
    assert load_settings().server.port == 1


def test_a_file_of_nobodys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMANTIC_CONFIG", "~nobody-of-that-name/a.toml")
    with pytest.raises(SettingsError, match=r"~nobody-of-that-name/a\.toml cannot be read"):
        load_settings()


def test_the_env_file_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / ".env", f"{PORT}=1002\n")
    assert load_settings(env_file=None).server.port == 8000


def test_an_empty_variable_is_an_empty_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMANTIC_MODEL__ID", "")
    with pytest.raises(SettingsError, match=r"model\.id"):
        load_settings()


def test_variables_of_others_are_no_business_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEMANTIC_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("OPENAI__KEY", "x")
    write(tmp_path / ".env", "HF_TOKEN=x\nSEMANTIC_SERVICE_HOST=10.0.0.1\nA__B=1\n")
    load_settings()


@pytest.mark.parametrize("variable", [PORT, PORT.lower()])
def test_an_error_names_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "many")
    with pytest.raises(SettingsError, match=rf"server\.port: .* \(from {PORT} in the environment"):
        load_settings()


def test_an_error_names_the_variable_that_says_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PORT}__X", "1")
    with pytest.raises(SettingsError, match=rf"\(from {PORT}__X in the environment\)"):
        load_settings()


def test_an_error_of_our_own_is_told_in_our_words() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"store": {"dir": "~nobody-of-that-name/kv"}})
    assert str(caught.value) == (
        "store.dir: ~nobody-of-that-name/kv begins with a user who is not known here "
        "(from the command line)"
    )


def test_an_error_names_the_env_file(tmp_path: Path) -> None:
    write(tmp_path / ".env", f"{PORT}=many\n")
    with pytest.raises(SettingsError, match=rf"\(from {PORT} in \.env\)"):
        load_settings()


def test_an_error_names_the_toml_file(tmp_path: Path) -> None:
    config = write(tmp_path / "my.toml", "[server]\nport = 70000\n")
    with pytest.raises(SettingsError, match=rf"\(from {config}\)"):
        load_settings(config=config)


def test_every_error_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PORT, "many")
    config = write(tmp_path / "my.toml", "[engine]\nmax_batch = 0\n")
    with pytest.raises(SettingsError) as caught:
        load_settings({"logging": {"level": "loud"}}, config=config)
    text = str(caught.value)
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "server.port",
        "engine.max_batch",
        "logging.level",
    ]


@pytest.mark.parametrize("text", ["[server]\nprt = 1\n", "[servr]\nport = 1\n", "port = 1\n"])
def test_an_unknown_key_in_a_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="there is no such setting"):
        load_settings(config=write(tmp_path / "my.toml", text))


@pytest.mark.parametrize("name", ["SEMANTIC_SERVER__PRT", "SEMANTIC_SERVR__PORT"])
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=rf"{name} in the environment") as caught:
        load_settings()
    assert "there is no such setting" in str(caught.value)


def test_an_unknown_variable_in_the_env_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / ".env", "SEMANTIC_SERVR__PORT=1\n")
    with pytest.raises(SettingsError, match=r"SEMANTIC_SERVR__PORT in \.env"):
        load_settings()


def test_a_section_must_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="server: "):
        load_settings(config=write(tmp_path / "my.toml", "server = 5\n"))
    monkeypatch.setenv("SEMANTIC_SERVER", "5]")
    with pytest.raises(SettingsError, match=r"the environment: .*server"):
        load_settings()


@pytest.mark.parametrize("content", [b"[server\nport = 1", b'[server]\nhost = "\xff"'])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "my.toml"
    config.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"{config} is not valid TOML"):
        load_settings(config=config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(config=tmp_path / "nowhere.toml")


def test_an_unreadable_env_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SEMANTIC_MODEL__ID=\xff\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def test_the_overrides_for_tests_are_valid() -> None:
    settings = load_settings(config=default_config().with_name("test.toml"))
    assert settings.server.port == 0
