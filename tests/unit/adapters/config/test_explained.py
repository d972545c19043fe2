from itertools import combinations
from pathlib import Path

import pytest

from semantic.adapters.config.sources import (
    default_config,
    explain_settings,
    load_settings,
)

PORT = "SEMANTIC_SERVER__PORT"


def source_of(key: str, config: Path | None = None) -> str:
    return {found.key: found.source for found in explain_settings(config=config)}[key]


def test_every_setting_is_explained_with_its_value() -> None:
    expected = {
        f"{section}.{key}": value
        for section, values in load_settings().model_dump().items()
        for key, value in values.items()
    }
    found = explain_settings()
    assert {setting.key: setting.value for setting in found} == expected
    assert {setting.source for setting in found} == {str(default_config())}


def test_each_source_is_named_where_it_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[server]\nport = 1\n")
    seen = [source_of("server.port"), source_of("server.port", config=config)]
    (tmp_path / ".env").write_text(f"{PORT}=2\n")
    seen.append(source_of("server.port", config=config))
    monkeypatch.setenv(PORT, "3")
    seen.append(source_of("server.port", config=config))
    command_line = explain_settings({"server": {"port": 4}}, config=config)
    seen.append(next(found.source for found in command_line if found.key == "server.port"))
    assert seen == [
        str(default_config()),
        str(config),
        f"{PORT} in .env",
        f"{PORT} in the environment",
        "the command line",
    ]


def test_a_source_explains_only_what_it_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT, "3")
    assert source_of("server.host") == str(default_config())


def test_a_value_is_shown_as_it_was_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT, "3")
    [port] = [found for found in explain_settings() if found.key == "server.port"]
    assert port.value == 3


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    list(
        combinations(["the command line", "the environment", ".env", "a file", "the defaults"], 2)
    ),
)
def test_of_each_two_sources_the_stronger_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stronger: str, weaker: str
) -> None:
    said, config = None, None
    for source, port in ((stronger, 1), (weaker, 2)):
        match source:
            case "the command line":
                said = {"server": {"port": port}}
            case "the environment":
                monkeypatch.setenv(PORT, str(port))
            case ".env":
                (tmp_path / ".env").write_text(f"{PORT}={port}\n")
            case "a file":
                config = tmp_path / "my.toml"
                config.write_text(f"[server]\nport = {port}\n")
    assert load_settings(said, config=config).server.port == 1


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SEMANTIC_SERVER": '{"port": 5}'}, "SEMANTIC_SERVER"),
        ({"SEMANTIC_SERVER": '{"host": "::1"}', PORT: "5"}, PORT),
        ({"SEMANTIC_SERVER": '{"port": 6}', PORT: "5"}, PORT),
    ],
)
def test_the_variable_that_is_named_is_the_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings().server.port == 5
    assert source_of("server.port") == f"{named} in the environment"
