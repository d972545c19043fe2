"""`semantic config`: what is set, and where."""

from dataclasses import asdict

import typer

from semantic.entrypoints.commands import options, output

app = typer.Typer(help="Settings and where they come from.", no_args_is_help=True)


@app.command("show")
def show(  # noqa: PLR0913 - the options of `semantic serve`, and one more
    *,
    model: options.Model = None,
    host: options.Host = None,
    port: options.Port = None,
    store: options.Store = None,
    config: options.Config = None,
    log_level: options.LogLevel = None,
    as_json: options.AsJson = False,
) -> None:
    """Show every setting, its value, and the source that it came from.

    Takes the options of `semantic serve`, and shows what a server would make of them. Sources,
    the strongest first: the command line, SEMANTIC_* variables, a .env file, a TOML file, the
    defaults.
    """
    from semantic.adapters.config.sources import (  # noqa: PLC0415 - start quickly
        explain_settings,
        load_settings,
    )

    given = options.said(options.of_a_server(model, host, port, store, log_level))
    found = explain_settings(given, config=config)
    if as_json:
        output.print_json([asdict(setting) for setting in found])
        return
    settings = load_settings(given, config=config)
    users_own = {
        "store.dir": f'"", so {settings.store.path}',
        "model.cache_dir": f'"", so {settings.model.cache_path}',
    }
    rows = [
        (setting.key, str(setting.value) or users_own.get(setting.key, '""'), setting.source)
        for setting in found
    ]
    output.print_table(("SETTING", "VALUE", "SOURCE"), rows)
