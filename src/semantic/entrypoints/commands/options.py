"""Options that several commands share, and the settings that follow from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from semantic.adapters.config.settings import Settings
    from semantic.domain.ids import TenantId

Model = Annotated[
    str | None, typer.Option(help="'default', a folder, a GGUF file, or a Hugging Face id.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")]
LogLevel = Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING, ERROR or CRITICAL.")]
Config = Annotated[Path | None, typer.Option(help="TOML file laid over the defaults.")]
Store = Annotated[str | None, typer.Option(help="Folder in which memory is kept.")]
Url = Annotated[
    str | None,
    typer.Option(help="Where the server is; as default, where the settings put it."),
]
Tenant = Annotated[
    str | None,
    typer.Option(help="Whose they are; as default, everybody's who is not told apart."),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="SEMANTIC_API_KEY", help="An API key, where the server needs one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Given = dict[str, dict[str, str | int | None]]
"""Section -> key -> what the command line says, None for nothing."""


def of_a_server(
    model: str | None,
    host: str | None,
    port: int | None,
    store: str | None,
    log_level: str | None,
) -> Given:
    """What the options of `semantic serve` say."""
    return {
        "model": {"id": model},
        "server": {"host": host, "port": port},
        "store": {"dir": store},
        "logging": {"level": log_level},
    }


def settings_from(given: Given, config: Path | None) -> "Settings":
    """The settings under which a command runs, its log going to stderr.

    Raises:
        SettingsError: naming the key and the source of every value that cannot be used.
    """
    from semantic.adapters.config.logging import configure_logging  # noqa: PLC0415 - start quickly
    from semantic.adapters.config.sources import load_settings  # noqa: PLC0415 - see above

    settings = load_settings(said(given), config=config)
    configure_logging("WARNING", "console")
    return settings


def said(given: Given) -> dict[str, dict[str, str | int]]:
    """Leave out what was not said."""
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in given.items()
    }


def tenant_of(text: str | None) -> "TenantId":
    """The tenant that an option names.

    Raises:
        InvalidRequestError: if it can be nobody's name.
    """
    from semantic.domain.errors import InvalidRequestError  # noqa: PLC0415 - start quickly
    from semantic.domain.ids import DEFAULT_TENANT, tenant_id  # noqa: PLC0415 - see above

    if text is None:
        return DEFAULT_TENANT
    try:
        return tenant_id(text)
    except ValueError as error:
        raise InvalidRequestError(
            f"{error}: up to 64 small letters, digits, '_' and '-'", field="tenant"
        ) from error
