"""`semantic memory`: who has the memory for KV, of the server that has the store.

Nothing of it is on disk, so without a server there is nothing to be told.
"""

from typing import Any

import typer

from semantic.entrypoints.commands import options, output

_WIDTH = 12


def memory(
    *,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what a running server's memory for KV is used for.

    What is held cannot be had now; what is cached goes when the room is needed. Requests are in
    work, or wait; who is preempted gives way to others and waits once more. The server is the one
    that has the store.
    """
    from semantic.entrypoints import running_server  # noqa: PLC0415 - start quickly

    root = options.settings_from({"store": {"dir": store}}, config).store.path
    use = running_server.memory_use(root)
    if as_json:
        output.print_json(use)
        return
    for heading, value in _lines(use):
        typer.echo(f"{heading + ':':{_WIDTH}}{value}")


def _lines(use: dict[str, Any]) -> list[tuple[str, str]]:
    running, reading = output.size(use["running"]), output.size(use["reading"])
    return [
        ("pressure", use["pressure"]),
        ("total", output.size(use["total"])),
        ("held", f"{output.size(use['held'])} ({running} running, {reading} being read)"),
        ("cached", output.size(use["cached"])),
        ("free", output.size(use["free"])),
        ("in work", f"{use['in_work']} (batches: {use['batches']})"),
        ("waiting", str(use["waiting"])),
        ("preempted", f"{use['preemptions']} since the start"),
    ]
