"""`semantic models`: what can be served without a download, and what is being served."""

from dataclasses import asdict

import typer

from semantic.entrypoints.commands import options, output

app = typer.Typer(help="Models on this machine.", no_args_is_help=True)
_GLANCE_S = 2.0


@app.command("list")
def list_models(
    *,
    url: options.Url = None,
    key: options.Key = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """List models: served by the running server, converted, in the hub's cache, or installed.

    What stands in the first column can be given to `semantic serve --model`, except for what
    another server serves under a name of its own.
    """
    from semantic.adapters.config.settings import SettingsError  # noqa: PLC0415 - start quickly
    from semantic.adapters.outbound.mlx.installed_models import (  # noqa: PLC0415 - it loads MLX
        installed,
    )
    from semantic.entrypoints import running_server  # noqa: PLC0415 - see above

    settings = options.settings_from({"store": {"dir": store}}, config)
    root = running_server.find(url, settings)
    try:
        served = running_server.served_models(root, timeout_s=_GLANCE_S, key=key)
    except (running_server.ServerError, SettingsError):
        if url:
            raise
        served = ()
    found = [
        *({"model": name, "state": "served", "place": root, "bytes": None} for name in served),
        *(
            {**asdict(model), "place": str(model.place)}
            for model in installed(settings.model.cache_path)
        ),
    ]
    if as_json:
        output.print_json(found)
    elif not found:
        output.note("There is no model on this machine; `semantic serve` fetches the default one.")
    else:
        output.print_table(("MODEL", "STATE", "SIZE", "PLACE"), [_row(model) for model in found])


def _row(model: dict[str, str | int | None]) -> tuple[str, ...]:
    nbytes = model["bytes"]
    taken = output.size(nbytes) if isinstance(nbytes, int) else "-"
    return str(model["model"]), str(model["state"]), taken, str(model["place"])
