"""The command `semantic`.

What a command needs is imported inside it: `semantic version` loads no engine and no server.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from semantic import __version__
from semantic.domain.errors import SemanticError

FAILED = 1
BAD_USAGE = 2

app = typer.Typer(
    help="An inference server in which each agent's memory is a durable, named object.",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks show local variables, which may hold prompts.
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a mistake of the user's is one line, not a traceback."""
    try:
        app()
    except SemanticError as error:
        _complain(error)
        sys.exit(FAILED)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    *,
    model: Annotated[
        str | None, typer.Option(help="'default', a folder, or a Hugging Face id.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder in which memory is kept.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file laid over the defaults.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Serve a model over HTTP until interrupted.

    Options win over SEMANTIC_* variables, those over a .env file, that over the TOML file.
    """
    from semantic.adapters.config.settings import SettingsError  # noqa: PLC0415 - see above
    from semantic.adapters.config.sources import load_settings  # noqa: PLC0415

    options: dict[str, dict[str, str | int | None]] = {
        "model": {"id": model},
        "server": {"host": host, "port": port},
        "store": {"dir": store},
        "logging": {"level": log_level},
    }
    try:
        settings = load_settings(_given(options), config=config)
        from semantic.entrypoints import server  # noqa: PLC0415 - it loads the engine

        server.serve(settings)
    except SettingsError as error:
        _complain(error)
        raise typer.Exit(BAD_USAGE) from error


def _given(options: dict[str, dict[str, str | int | None]]) -> dict[str, dict[str, str | int]]:
    """Leave out what was not said."""
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in options.items()
    }


def _complain(error: SemanticError) -> None:
    from rich.console import Console  # noqa: PLC0415 - see above

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(str(error), markup=False)
