"""Promises held against what was measured, and how they are shown."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Check:
    """A promise held against what was measured, and whether it was kept."""

    text: str
    met: bool


def show(console: Console, checks: Iterable[Check]) -> bool:
    """Print them; whether all were kept."""
    kept = True
    for check in checks:
        mark = "[green]kept[/green]  " if check.met else "[red]BROKEN[/red]"
        console.print(f"{mark} {check.text}", highlight=False)
        kept &= check.met
    return kept
