"""Kills a process that keeps a real store busy, again and again, and looks what is left.

Each round opens the store in a new process under load, at a cap or at none, lets it run for a
moment, and ends it by SIGKILL: while it starts, sweeps, writes, evicts, deletes. The process has
told what is durable. Then nothing durable may be lost, no row or record lead to what is not there,
no chain have a hole, and every byte must be the one that was written. Exits with 1 otherwise.
"""

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE
from tests.fakes.busy_store import (
    NAMES,
    WRONG_ORDERS,
    Life,
    chain_of,
    digest_of,
    live,
    namespace_of,
    part_of,
)
from tests.fakes.disk_engine import on_disk
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.agent import AgentRecord
from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.ids import BlockKey, Namespace

KILLS = 1000
_LIVES_OF_A_STORE = 10
_LONGEST_LIFE_S = 0.3
_LONGEST_IDLE_S = 0.1
_CAPS = (1 << 20, 4 << 20)
_PIPE = 1 << 16
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
"""Where there is one, every other store lies in memory: nothing waits there for a disk to sync,
which SIGKILL says nothing about, and more happens in a process's life."""
_ONE_BLOCK = 64 << 10
"""All parts of a block of the load take less."""

_Place = tuple[Namespace, PartId]


@dataclass
class Told:
    """What the processes of one store have told until each was killed."""

    blocks: dict[_Place, str] = field(default_factory=dict)
    """The last word about each part: putting, put, going, gone."""
    records: dict[str, dict[int | None, str]] = field(
        default_factory=lambda: {name: {None: ""} for name in NAMES}
    )
    """What each agent's record may be now: digests by number, None for no record."""
    wrong: list[str] = field(default_factory=list)
    last: str = ""

    def hear(self, line: str) -> None:
        """Take in a line of the journal."""
        self.last, *words = line.split()
        match self.last, words:
            case (("putting" | "put" | "going" | "gone"), (namespace, *parts)):
                for part in parts:
                    key, _, kind = part.partition(".")
                    name = PartId(BlockKey(key), PartKind(kind))
                    self.blocks[Namespace(namespace), name] = self.last
            case "saving", (agent, number, digest):
                self.records[agent][int(number)] = digest
            case "saved", (agent, number):
                self.records[agent] = {int(number): self.records[agent].get(int(number), "")}
            case "forgetting", (agent,):
                self.records[agent][None] = ""
            case "forgot", (agent,):
                self.records[agent] = {None: ""}
            case "wrong", (key,):
                self.wrong.append(f"the process itself read wrong bytes of {key}")


@dataclass
class Found:
    """What is wrong with a store after a kill, and how much was looked at."""

    lost: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    parts: int = 0
    records: int = 0

    @property
    def bad(self) -> int:
        """How many things are wrong."""
        return len(self.lost) + len(self.dangling) + len(self.holes) + len(self.wrong)


@dataclass
class Totals:
    """What came of all rounds. `over_cap`: bytes above the cap, or above what was there before."""

    kills: int = 0
    parts: int = 0
    records: int = 0
    lost: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over_cap: int = -(1 << 60)
    killed: Counter[str] = field(default_factory=Counter)
    """What the processes did last."""

    @property
    def bad(self) -> list[str]:
        """All that is wrong."""
        return [*self.lost, *self.dangling, *self.holes, *self.wrong]

    def add(self, found: Found) -> None:
        """Count another round."""
        self.kills += 1
        self.parts += found.parts
        self.records += found.records
        for name in ("lost", "dangling", "holes", "wrong"):
            getattr(self, name).extend(getattr(found, name))


def kill(life: Life, after_s: float, told: Told) -> None:
    """Live in a process of its own, for so long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _live(life, writing)
    os.close(writing)
    end, rest, alive = time.monotonic() + after_s, b"", True
    while True:
        left = end - time.monotonic()
        if alive and (left <= 0 or not select.select([reading], [], [], left)[0]):
            os.kill(child, signal.SIGKILL)
            alive = False
        data = os.read(reading, _PIPE)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            told.hear(line.decode())
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if alive or os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        told.wrong.append("the process ended by itself")


def _live(life: Life, descriptor: int) -> None:
    try:
        live(life, descriptor)
    finally:
        sys.stderr.flush()
        os._exit(1)


def look(root: Path, told: Told, *, unlimited_from: int | None, sweep: bool) -> Found:
    """Open the store as the next process does, and hold it against what was told.

    Records from the number `unlimited_from` on were saved while nothing had to be given up. What
    is found there is what the next process must keep.
    """
    found, telemetry = Found(wrong=told.wrong), RecordedTelemetry()
    with StoreLock(root):
        store = IndexedBlocks(root, telemetry, SystemClock())
        agents = AgentFiles(root, telemetry)
        try:
            there = {
                (namespace, one.id)
                for namespace in (NAMESPACE, OTHER_NAMESPACE)
                for one in _sound(store, namespace, found)
            }
            _compare(there, told, found)
            for record in agents.list():
                found.records += 1
                _check_record(record, there, told, found, unlimited_from)
            _check_absent({record.name for record in agents.list()}, told, found)
            if sweep:
                _check_swept(root, store, there, found)
        finally:
            store.close()
    if left := list((root / "tmp").iterdir()):
        found.dangling.append(f"left in tmp: {left}")
    found.wrong.extend(f"reported: {name}" for name in telemetry.names("warning"))
    told.wrong = []
    told.blocks = dict.fromkeys(told.blocks, "gone") | dict.fromkeys(there, "put")
    return found


def _sound(store: IndexedBlocks, namespace: Namespace, found: Found) -> list[BlockHeader]:
    """Every row of a namespace leads to a whole file, with the bytes that belong there."""
    rows = {header.id: header for header in store.headers(namespace)}
    for header in rows.values():
        part = store.get(namespace, header.id)
        found.parts += 1
        if part is None:
            found.dangling.append(f"{header.kind.value} part of {header.key} has no file")
        elif part != part_of(header):
            found.wrong.append(f"{header.kind.value} part of {header.key} holds other bytes")
        begins = PartKind.FULL if header.kind.begins else PartKind.TAIL
        below = header.parent if header.kind.begins else header.key
        stands = header.kind.begins and header.start == 0
        if not stands and not {PartId(below, PartKind.FULL), PartId(below, begins)} & set(rows):
            found.holes.append(f"{header.kind.value} part of {header.key} stands on nothing")
    return list(rows.values())


def _compare(there: set[_Place], told: Told, found: Found) -> None:
    for place, word in told.blocks.items():
        name = f"{place[1].kind.value} part of {place[1].key}"
        if word == "put" and place not in there:
            found.lost.append(name)
        elif word == "gone" and place in there:
            found.dangling.append(f"{name} was deleted")


def _check_record(
    record: AgentRecord,
    there: set[_Place],
    told: Told,
    found: Found,
    unlimited_from: int | None,
) -> None:
    number = int(record.updated_at)
    if told.records[record.name].get(number) != digest_of(record):
        found.lost.append(f"the record of {record.name}, which is another one now")
    told.records[record.name] = {number: digest_of(record)}
    if unlimited_from is None or number < unlimited_from:
        return
    namespace = namespace_of(record.name)
    for header in chain_of(record.branches[-1].ids, namespace):
        place = (namespace, header.id)
        if place not in there and place not in told.blocks:
            found.dangling.append(f"{record.name}'s record names {header.key}, never written")


def _check_absent(names: set[str], told: Told, found: Found) -> None:
    for name in [name for name in NAMES if name not in names]:
        if None not in told.records[name]:
            found.lost.append(f"the record of {name}")
        told.records[name] = {None: ""}


def _check_swept(root: Path, store: IndexedBlocks, there: set[_Place], found: Found) -> None:
    """After a sweep there are the files of the rows, and no other."""
    if any(gone for gone in store.sweep()):
        found.dangling.append("the sweep found rows without files")
    files = {path.name for path in (root / "blk").rglob("*") if path.is_file()}
    if files != {f"{part.key}.{part.kind.value}.st" for _, part in there}:
        found.dangling.append("files are left that no row leads to")


def rounds(
    folders: Sequence[Path], kills: int, seed: int, wrong_order: str | None = None
) -> Totals:
    """Kill so many processes, their stores in one folder after the other; what came of it."""
    numbers, totals = random.Random(seed), Totals()  # noqa: S311 - reproducible, no secrets
    told, root, before = Told(), folders[0], 0
    for number in range(1, kills + 1):
        if number % _LIVES_OF_A_STORE == 1:
            folder = folders[number // _LIVES_OF_A_STORE % len(folders)]
            root, told, before = folder / f"store-{number}", Told(), 0
        cap = numbers.choice((None, numbers.randrange(*_CAPS)))
        idle_s = numbers.choice((0.0, 0.0, numbers.random() * _LONGEST_IDLE_S))
        life = Life(root, number, cap, idle_s, wrong_order)
        kill(life, numbers.random() ** 2 * _LONGEST_LIFE_S, told)
        totals.killed[told.last] += 1
        taken = on_disk(root) if root.exists() else 0
        if cap is not None:
            totals.over_cap = max(totals.over_cap, taken - max(cap, before))
            if not wrong_order and totals.over_cap > _ONE_BLOCK:
                totals.wrong.append(f"{taken} bytes are taken, the cap is {cap}")
        first = None if cap else number << 20
        found = look(root, told, unlimited_from=first, sweep=numbers.choice((False, True)))
        before = on_disk(root)
        totals.add(found)
        if wrong_order and totals.bad:
            break
    return totals


def main() -> int:
    """Kill, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--wrong-order", choices=WRONG_ORDERS, help="break the store on purpose")
    options = parser.parse_args()
    with ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
            for place in (None, _MEMORY)
            if place is None or place.is_dir()
        ]
        found = rounds(folders, options.kills, options.seed, options.wrong_order)
    print(
        f"{found.kills} kills of the store: {len(found.lost)} lost, "
        f"{len(found.dangling)} dangling, {len(found.holes)} holes, {len(found.wrong)} wrong; "
        f"{found.parts} parts and {found.records} records read"
    )
    print(f"most above the cap: {found.over_cap} bytes; killed while:", dict(found.killed))
    for one in found.bad[:20]:
        print(f"  {one}")
    return int(bool(found.bad))


if __name__ == "__main__":
    sys.exit(main())
