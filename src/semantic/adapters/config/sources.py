"""Where the value of a setting comes from.

The first of these that has a key wins: the command line, the environment, a `.env` file, the
user's TOML file, the defaults. Whatever is wrong is reported with the source it came from.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from semantic.adapters.config.settings import (
    ENV_DELIMITER,
    ENV_PREFIX,
    Settings,
    SettingsError,
)

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
"""Names the user's TOML file."""

_OUR_OWN = "Value error, "
"""What pydantic puts before the words of a check that is ours."""

Values = Mapping[str, Any]
"""Section -> key -> value; not validated yet, so anything may be in it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Values and the place they were found in; `variables`: those that are there, if it has any."""

    name: str
    values: Values
    variables: frozenset[str] = frozenset()

    def holds(self, path: tuple[str, ...]) -> bool:
        """Whether there is a value under `path`."""
        found: Any = self.values
        for key in path:
            if not isinstance(found, Mapping) or key not in found:
                return False
            found = found[key]
        return True

    def spelled(self, path: tuple[str, ...]) -> str:
        """How a person would find the value of `path`."""
        if not self.variables:
            return self.name
        key = f"{ENV_PREFIX}{ENV_DELIMITER.join(path)}".lower()
        # A variable may hold a whole section, as JSON; a mistaken one may go on below the key.
        named = [
            variable
            for variable in self.variables
            if f"{key}{ENV_DELIMITER}".startswith(f"{variable}{ENV_DELIMITER}")
            or variable.startswith(f"{key}{ENV_DELIMITER}")
        ]
        return f"{max(named, key=len, default=key).upper()} in {self.name}"


@dataclass(frozen=True, slots=True)
class Explained:
    """A setting, its value, and how a person would find where that comes from."""

    key: str
    value: str | float
    source: str


def default_config() -> Path:
    """The file of defaults: inside the installed package, or in the source tree."""
    packaged = Path(__file__).with_name("default.toml")
    return packaged if packaged.exists() else Path(__file__).parents[4] / "config" / "default.toml"


def load_settings(
    command_line: Values | None = None,
    *,
    config: Path | None = None,
    env_file: Path | None = Path(".env"),
) -> Settings:
    """Merge all sources and check the result.

    `config` is a TOML file laid over the defaults; without it the variable SEMANTIC_CONFIG may
    name one. A missing `env_file` is no error, a missing `config` is.

    Raises:
        SettingsError: naming the key and the source of every value that cannot be used.
    """
    return _checked(_sources(command_line or {}, config, env_file))


def explain_settings(
    command_line: Values | None = None,
    *,
    config: Path | None = None,
    env_file: Path | None = Path(".env"),
) -> tuple[Explained, ...]:
    """Every setting with its source; takes and raises what `load_settings` does."""
    sources = _sources(command_line or {}, config, env_file)
    return tuple(
        Explained(f"{section}.{key}", value, _origin(sources, (section, key)))
        for section, values in _checked(sources).model_dump().items()
        for key, value in values.items()
    )


def _sources(values: Values, config: Path | None, env_file: Path | None) -> tuple[Source, ...]:
    """All sources; the first that has a key wins."""
    environment = EnvSettingsSource(Settings)
    dotenv = _dotenv(env_file)
    named = environment.env_vars.get(CONFIG_VARIABLE.lower()) or dotenv.env_vars.get(
        CONFIG_VARIABLE.lower()
    )
    # No shell has seen what stands in a .env file.
    files = [config or (_at_home(Path(named)) if named else None), default_config()]
    return (
        Source("the command line", values),
        _variables("the environment", environment),
        _variables(str(env_file), dotenv),
        *(_toml(file) for file in files if file is not None),
    )


def _at_home(file: Path) -> Path:
    try:
        return file.expanduser()
    except RuntimeError:
        return file  # of a user who is not known here; opening it tells


def _checked(sources: tuple[Source, ...]) -> Settings:
    try:
        return Settings(**_merged(sources))
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from error


def _origin(sources: tuple[Source, ...], path: tuple[str, ...]) -> str:
    return next((source.spelled(path) for source in sources if source.holds(path)), "nowhere")


def _dotenv(env_file: Path | None) -> DotEnvSettingsSource:
    try:
        return DotEnvSettingsSource(
            Settings,
            env_file=env_file,
            # Other programs keep their variables in the same file.
            dotenv_filtering="only_existing",
        )
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} cannot be read: {error}") from error


def _variables(name: str, source: EnvSettingsSource) -> Source:
    prefix = ENV_PREFIX.lower()
    for variable in source.env_vars:
        section, delimiter, _ = variable.removeprefix(prefix).partition(ENV_DELIMITER)
        # Without the delimiter it is somebody else's: Kubernetes sets SEMANTIC_PORT by itself.
        if variable.startswith(prefix) and delimiter and section not in Settings.model_fields:
            raise SettingsError(f"{variable.upper()} in {name}: there is no such setting")
    try:
        return Source(name, source(), frozenset(source.env_vars))
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error


def _toml(file: Path) -> Source:
    try:
        with file.open("rb") as stream:
            return Source(str(file), tomllib.load(stream))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error


def _merged(sources: tuple[Source, ...]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        for section, values in source.values.items():
            below = merged.get(section)
            if isinstance(values, Mapping) and isinstance(below, Mapping):
                merged[section] = {**below, **values}
            else:
                merged[section] = values
    return merged


def _explain(error: ValidationError, sources: tuple[Source, ...]) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = tuple(str(part) for part in problem["loc"])
        unknown = problem["type"] == "extra_forbidden"
        what = "there is no such setting" if unknown else problem["msg"].removeprefix(_OUR_OWN)
        lines.append(f"{'.'.join(path)}: {what} (from {_origin(sources, path)})")
    return "\n".join(lines)
