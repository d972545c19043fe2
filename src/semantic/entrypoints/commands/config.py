"""`semantic config`: what is set, and where."""

from dataclasses import asdict

import typer

from semantic.entrypoints.commands import options, output

app = typer.Typer(help="Settings and where they come from.", no_args_is_help=True)


@app.command("show")
def show(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """Show every setting, its value, and the source that it came from.

    Sources, the strongest first: the command line, SEMANTIC_* variables, a .env file, a TOML
    file, the defaults.
    """
    from semantic.adapters.config.sources import (  # noqa: PLC0415 - start quickly
        explain_settings,
        load_settings,
    )

    found = explain_settings(config=config)
    if as_json:
        output.print_json([asdict(setting) for setting in found])
        return
    settings = load_settings(config=config)
    users_own = {"store.dir": settings.store.path, "model.cache_dir": settings.model.cache_path}
    rows = [
        (setting.key, str(setting.value) or f'"", so {users_own[setting.key]}', setting.source)
        for setting in found
    ]
    output.print_table(("SETTING", "VALUE", "SOURCE"), rows)
