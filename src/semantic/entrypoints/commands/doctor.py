"""`semantic doctor`: whether a server would run well here, and what to do where not."""

from typing import TYPE_CHECKING

import typer

from semantic.entrypoints.commands import options, output
from semantic.entrypoints.commands.exit_codes import FAILED

if TYPE_CHECKING:
    from semantic.entrypoints.diagnosis import Finding

_COLORS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "wrong": typer.colors.RED}


def doctor(
    *,
    model: options.Model = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the engine, its speed, the model, the disk and permissions.

    Measures for a few seconds. Ends with 1 if something is wrong, with 0 if there are only
    warnings.
    """
    settings = options.settings_from({"model": {"id": model}, "store": {"dir": store}}, config)
    from semantic.entrypoints.diagnosis import Health, diagnose  # noqa: PLC0415 - start quickly

    findings = []
    for finding in diagnose(settings):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        output.print_json([_json(finding) for finding in findings])
    if any(finding.health is Health.WRONG for finding in findings):
        raise typer.Exit(FAILED)


def _print(finding: "Finding") -> None:
    health = finding.health.value
    typer.secho(f"{health:<8}", fg=_COLORS[health], nl=False)
    typer.echo(f"{finding.name}: {finding.detail}")
    if finding.advice:
        typer.echo(f"{'':8}-> {finding.advice}")


def _json(finding: "Finding") -> dict[str, str | None]:
    return {
        "name": finding.name,
        "health": finding.health.value,
        "detail": finding.detail,
        "advice": finding.advice,
    }
