"""The command `semantic`.

What a command needs is imported inside it: `semantic version` loads no engine and no server.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from semantic import __version__
from semantic.domain.errors import InvalidRequestError, SemanticError
from semantic.entrypoints.commands import (
    agents,
    cache,
    config,
    exit_codes,
    keys,
    models,
    options,
    output,
)
from semantic.entrypoints.commands.chat import chat
from semantic.entrypoints.commands.doctor import doctor
from semantic.entrypoints.commands.memory import memory

_ENGINE = "mlx.core"

app = typer.Typer(
    help="An inference server in which each agent's memory is a durable, named object.",
    epilog=exit_codes.HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # Its tracebacks show local variables, which may hold prompts.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line and end the process."""
    code = run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody may read it any more
            stream.flush()
    if _ENGINE in sys.modules:
        # Not sys.exit: one of MLX's threads may let go of a Python object while the interpreter
        # is torn down, and abort the process. All that must last has been closed by now.
        os._exit(code)
    sys.exit(code)


def run() -> int:
    """Run the command line; a mistake of the user's is told in a line, not as a traceback.

    So is what the operating system refuses: a full disk, a folder that may not be looked into.
    """
    try:
        app()
    except SemanticError as error:
        output.complain(error)
        return _exit_code(error)
    except OSError as error:
        output.complain(error)
        return exit_codes.FAILED
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else exit_codes.OK
    return exit_codes.OK


def _print_version(asked: bool) -> None:  # noqa: FBT001 - the library's signature
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _semantic(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    pass  # what there is to do, the option's callback has done


@app.command()
def version(*, as_json: options.AsJson = False) -> None:
    """Print the version."""
    if as_json:
        output.print_json({"version": __version__})
    else:
        typer.echo(__version__)


@app.command()
def serve(
    *,
    model: options.Model = None,
    host: options.Host = None,
    port: options.Port = None,
    store: options.Store = None,
    config: options.Config = None,
    log_level: options.LogLevel = None,
) -> None:
    """Serve a model over HTTP until interrupted.

    Options win over SEMANTIC_* variables, those over a .env file, that over the TOML file.

    The first Ctrl-C or SIGTERM lets running answers end, the second does not, the third waits
    for nothing. Closing the terminal counts as one, unless nohup keeps that from it.
    """
    from semantic.entrypoints.stop_signals import StopSignals  # noqa: PLC0415 - see above

    signals = StopSignals()
    settings = options.settings_from(
        options.of_a_server(model, host, port, store, log_level), config
    )
    from semantic.entrypoints import server  # noqa: PLC0415 - it loads the engine

    server.serve(settings, signals)


app.command()(chat)
app.add_typer(agents.app, name="agents")
app.add_typer(keys.app, name="keys")
app.add_typer(cache.app, name="cache")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.command()(memory)
app.command()(doctor)


def _exit_code(error: SemanticError) -> int:
    from semantic.adapters.config.settings import SettingsError  # noqa: PLC0415 - see above

    misused = isinstance(error, (SettingsError, InvalidRequestError))
    return exit_codes.BAD_USAGE if misused else exit_codes.FAILED
