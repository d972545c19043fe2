"""`semantic cache`: what the store takes, whether it is sound, and having less of it.

Looking needs no server and disturbs none; what changes the store needs it for itself.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semantic.entrypoints.commands import exit_codes, options, output

if TYPE_CHECKING:
    from semantic.adapters.config.settings import StoreSettings
    from semantic.adapters.outbound.storage.store_survey import Survey
    from semantic.application.store_totals import Total

app = typer.Typer(help="The store of blocks on disk.", no_args_is_help=True)

_NAMESPACE_DIGITS = 12
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@app.command()
def stats(
    *,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what the store takes, by model and kind of part, and what it may take."""
    from semantic.entrypoints.offline import look_at, survey  # noqa: PLC0415 - start quickly

    settings = _store(store, config)
    seen = look_at(settings.path)
    found = survey(settings.path)
    told = _told(settings, found, agents=sum(1 for _ in seen.records.list()))
    if as_json:
        output.print_json(_as_json(told))
        return
    for heading, value in _lines(told):
        typer.echo(f"{heading + ':':15}{value}")
    if told.parts:
        headings = ("MODEL", "KIND", "PARTS", "ON DISK")
        rows = [
            (
                one.namespace[:_NAMESPACE_DIGITS],
                one.kind.value,
                str(one.parts),
                output.size(one.nbytes),
            )
            for one in told.parts
        ]
        output.print_table(headings, rows)


@app.command()
def verify(
    *,
    store: options.Store = None,
    config: options.Config = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Set aside, or forget, what is not sound; no server may run."
        ),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Read every block and record, compare it with its digest, and look for gaps.

    Exits with 1 if anything is damaged or missing.
    """
    from semantic.entrypoints import offline  # noqa: PLC0415 - start quickly

    root = _store(store, config).path
    checked = offline.repair(root) if repair else offline.verify(root)
    bad = [(fault.path.name, fault.reason) for fault in checked.faults]
    if as_json:
        faults = [{"file": name, "reason": reason} for name, reason in bad]
        output.print_json({"checked": checked.count, "repaired": repair, "damaged": faults})
    else:
        for name, reason in bad:
            typer.echo(f"{name}: {reason}")
        done = ", repaired" if repair and bad else ""
        typer.echo(f"{checked.count} files read, {len(bad)} damaged or missing{done}.")
    if bad:
        raise typer.Exit(exit_codes.FAILED)


@app.command()
def prune(
    *,
    to_size: Annotated[
        str | None, typer.Option(help="Until all takes no more than this: 20GB, 500MiB.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="What was not used for so long: 30d, 12h, 45m.")
    ] = None,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete the blocks that are missed least; what is deleted is computed again when needed.

    No server may run meanwhile. Agents are not forgotten: see `agents delete`.
    """
    from semantic.entrypoints import offline  # noqa: PLC0415 - start quickly

    to_bytes = None if to_size is None else _amount(to_size.upper(), _SIZES, "--to-size")
    age = None if older_than is None else _amount(older_than.lower(), _AGES, "--older-than")
    if to_bytes is None and age is None:
        raise typer.BadParameter("say --to-size or --older-than")
    now = time.time()
    root = _store(store, config).path
    gone = offline.prune(root, now, to_bytes, None if age is None else now - age)
    if as_json:
        output.print_json(asdict(gone))
    else:
        typer.echo(f"{gone.blocks} blocks removed, {output.size(gone.nbytes)} freed.")


@app.command()
def rebuild(
    *,
    store: options.Store = None,
    config: options.Config = None,
    as_json: options.AsJson = False,
) -> None:
    """Make the index anew from the files. No server may run meanwhile."""
    from semantic.entrypoints import offline  # noqa: PLC0415 - start quickly

    count = offline.rebuild(_store(store, config).path)
    if as_json:
        output.print_json({"parts": count})
    else:
        typer.echo(f"The index knows {count} parts.")


def _store(store: str | None, config: Path | None) -> "StoreSettings":
    return options.settings_from({"store": {"dir": store}}, config).store


def _amount(text: str, units: dict[str, int], option: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if found is None or found[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise typer.BadParameter(f"{option}: {text!r} is no number with one of {known}")
    return int(float(found[1]) * units[found[2]])


@dataclass(frozen=True, slots=True)
class _Share:
    """What is one tenant's."""

    tenant: str
    parts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Stats:
    """What `stats` tells, as programs get it."""

    store: str
    bytes: int
    cap: int
    free: int
    blocks: int
    agents: int
    set_aside: int
    written_today: int
    daily_write_bytes: int
    parts: tuple["Total", ...]
    tenants: tuple["_Share", ...]


def _told(settings: "StoreSettings", found: "Survey", agents: int) -> _Stats:
    from semantic.application.space_keeper import cap_of  # noqa: PLC0415 - start quickly
    from semantic.application.store_totals import totals  # noqa: PLC0415 - see above

    return _Stats(
        store=str(settings.path),
        bytes=found.usage,
        cap=cap_of(settings.max_bytes, settings.max_disk_share, found.free, found.usage),
        free=found.free,
        blocks=sum(part.id.kind.begins for part in found.parts),
        agents=agents,
        set_aside=found.set_aside,
        written_today=found.written_today,
        daily_write_bytes=settings.daily_write_bytes,
        parts=totals(found.parts),
        tenants=tuple(_Share(name, *share) for name, share in sorted(found.tenants.items())),
    )


def _as_json(told: _Stats) -> dict[str, object]:
    parts = [
        {
            "namespace": total.namespace,
            "kind": total.kind.value,
            "parts": total.parts,
            "bytes": total.nbytes,
        }
        for total in told.parts
    ]
    return {**asdict(told), "parts": parts}


def _lines(told: _Stats) -> Iterator[tuple[str, str]]:
    budget = f" of {output.size(told.daily_write_bytes)}" if told.daily_write_bytes else ""
    yield "store", told.store
    yield "takes", f"{output.size(told.bytes)} of at most {output.size(told.cap)}"
    yield "disk", f"{output.size(told.free)} free"
    yield "written today", f"{output.size(told.written_today)}{budget}"
    yield "agents", str(told.agents)
    yield "blocks", str(told.blocks)
    if len(told.tenants) > 1:
        for share in told.tenants:
            yield f"of {share.tenant}", f"{share.parts} parts, {output.size(share.bytes)}"
    if told.set_aside:
        yield "set aside", f"{told.set_aside} damaged files"
