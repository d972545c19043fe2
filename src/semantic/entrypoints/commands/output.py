"""How commands speak: tables and JSON on stdout, everything else on stderr.

What is printed says the same without colour, and is not cut or wrapped where nobody watches.
"""

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

_GAP = "  "
_UNITS = ("B", "KB", "MB", "GB", "TB")
_THOUSAND = 1000
_NUMBER = re.compile(r"-|[0-9.]+( [A-Z]?B)?")


def print_json(value: object) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns. Those of numbers stand to the right."""
    from rich.cells import cell_len  # noqa: PLC0415 - not every command prints a table

    lines = [headings, *rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(headings))]
    numeric = [_all_numbers([row[column] for row in rows]) for column in range(len(headings))]
    for number, line in enumerate(lines):
        cells = []
        for text, width, right in zip(line, widths, numeric, strict=True):
            space = " " * (width - cell_len(text))
            cells.append(space + text if right else text + space)
        typer.secho(_GAP.join(cells).rstrip(), bold=number == 0)


def note(text: str) -> None:
    """Say something that is not the result."""
    typer.secho(text, err=True, dim=sys.stderr.isatty())


def complain(error: Exception) -> None:
    """Tell what went wrong."""
    typer.secho("error:", err=True, fg=typer.colors.RED, bold=True, nl=False)
    typer.echo(f" {error}", err=True)


def size(nbytes: int) -> str:
    """A number of bytes for people."""
    amount = float(nbytes)
    for unit in _UNITS[:-1]:
        if amount < _THOUSAND:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _THOUSAND
    return f"{amount:.1f} {_UNITS[-1]}"


def local_time(seconds: float) -> str:
    """A moment in the reader's own time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(" ", "seconds")


def utc_time(seconds: float) -> str:
    """The same for programs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _all_numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)
