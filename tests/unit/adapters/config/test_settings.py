import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.config.settings import Settings, SettingsError
from semantic.adapters.config.sources import default_config, load_settings
from semantic.domain.errors import SemanticError

DEFAULTS: dict[str, dict[str, Any]] = tomllib.loads(default_config().read_text())


def test_the_defaults_are_valid_and_complete() -> None:
    assert load_settings().model_dump() == DEFAULTS


def test_no_default_stands_in_the_code() -> None:
    for section in Settings.model_fields.values():
        assert section.is_required()
        assert section.annotation is not None
        for key in section.annotation.model_fields.values():
            assert key.is_required()


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "host", ""),
        ("server", "port", -1),
        ("server", "port", 65536),
        ("server", "port", "http"),
        ("server", "max_body_bytes", 0),
        ("server", "ping_interval_s", 0),
        ("server", "ping_interval_s", math.inf),
        ("server", "shutdown_timeout_s", math.nan),
        ("model", "id", ""),
        ("store", "hot_bytes", -1),
        ("store", "queue_bytes", 1.5),
        ("store", "reader_threads", 0),
        ("store", "reader_threads", 65),
        ("store", "read_timeout_s", -1.0),
        ("store", "commit_timeout_s", 0),
        ("store", "durability", "none"),
        ("store", "kv_bits", 0),
        ("store", "kv_bits", "6"),
        ("store", "kv_bits", "all"),
        ("engine", "max_batch", 0),
        ("engine", "max_waiting", -1),
        ("engine", "chunk_tokens_cpu", 0),
        ("engine", "chunk_tokens_shared", 0),
        ("engine", "blas_threads", -1),
        ("generation", "default_max_tokens", 0),
        ("agents", "max_branches", 0),
        ("logging", "level", "LOUD"),
        ("logging", "level", 10),
        ("logging", "format", "xml"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(section: str, key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"{section}\.{key}: (Input|String) .*command line"):
        load_settings({section: {key: value}})


def test_a_level_may_be_written_small() -> None:
    assert load_settings({"logging": {"level": "debug"}}).logging.level == "DEBUG"


def test_a_settings_error_is_an_error_of_ours() -> None:
    assert issubclass(SettingsError, SemanticError)


def test_folders_default_to_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings()
    assert settings.store.path.is_relative_to(tmp_path)
    assert settings.model.cache_path.is_relative_to(tmp_path)
    assert settings.store.path != settings.model.cache_path


def test_a_folder_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_settings({"store": {"dir": "~/kv"}, "model": {"cache_dir": "~/models"}})
    assert settings.store.path == tmp_path / "kv"
    assert settings.model.cache_path == tmp_path / "models"


def test_a_folder_may_begin_where_the_process_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"store": {"dir": "./kv"}, "model": {"cache_dir": "models"}})
    assert settings.store.path == tmp_path / "kv"
    assert settings.model.cache_path == tmp_path / "models"


@pytest.mark.parametrize("folder", ["~no-such-user/kv", "a\0b"])
def test_what_can_be_no_folder_is_refused_by_name(folder: str) -> None:
    with pytest.raises(SettingsError, match=r"store\.dir: .*command line"):
        load_settings({"store": {"dir": folder}})


@pytest.mark.parametrize(("said", "bits"), [("none", None), (8, 8), (4, 4), ("8", 8), ("4", 4)])
def test_kv_bits_are_a_number_or_none(said: object, bits: int | None) -> None:
    """Text where they come from the environment."""
    assert load_settings({"store": {"kv_bits": said}}).store.quantized_bits == bits
