"""Damages a store's files in every way known, and sees that nobody gets wrong bytes from it.

Three quarters of the mutants are read through the real store: each is detected, or identical after
all. One quarter lies in wait while an engine answers from that store: the answer must be right,
what is damaged and what builds on it is computed again, and afterwards the store is sound. Then
agents' records and the index are damaged. Exits with 1 if anything wrong came of it.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE
from tests.fakes.busy_store import chain_of, part_of
from tests.fakes.disk_engine import DiskEngine, quick_folder
from tests.fakes.mutants import Mutant, Mutants, damaged_indexes, mutants
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import EVERYTHING, UNIFORM

from semantic.adapters.outbound.storage import store_survey
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart
from semantic.domain.cache_spec import BLOCK_SIZE, ModelCacheSpec
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import Namespace, TokenId

Tokens = tuple[TokenId, ...]

MUTANTS = 10_000
_THROUGH_AN_ENGINE = 4
"""Every so manieth mutant waits for an engine."""
_BESIDE = 40
_SWITCH_S = 1e-4
_MODELS = {"full attention": UNIFORM, "all kinds of layers": EVERYTHING}

Files = dict[Path, bytes]


@dataclass
class Totals:
    """Mutants by class, and what was wrong with any."""

    tried: Counter[str] = field(default_factory=Counter)
    detected: int = 0
    identical: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, problem: str | None, *, detected: bool) -> None:
        """Count a mutant."""
        self.tried[kind] += 1
        self.detected += detected
        self.identical += not detected
        if problem:
            self.wrong.append(f"{kind}: {problem}")


class Subject:
    """A small store of two models, all kinds of parts in it, and what lies where."""

    def __init__(self, root: Path) -> None:
        telemetry = RecordedTelemetry()
        self.store = IndexedBlocks(root, telemetry, SystemClock())
        self._listing = BlockListing(root, telemetry)
        self._parts = {
            self._path(part): part
            for namespace, first in ((NAMESPACE, 0), (OTHER_NAMESPACE, 7))
            for header in chain_of(tuple(range(first, first + 600)), namespace)
            for part in _all_kinds(header)
        }
        self.store.put(*self._parts.values())
        self.files = {path: path.read_bytes() for path in self._parts}
        self.elsewhere = {path: self._elsewhere(part) for path, part in self._parts.items()}

    def mutants(self, seed: int) -> Mutants:
        """Its mutants."""
        return Mutants(self.files, self.elsewhere, OTHER_NAMESPACE, seed)

    def check(self, mutant: Mutant) -> tuple[str | None, bool]:
        """What came of a mutant that is wrong, and whether the damage was detected."""
        problem, detected = None, False
        _lay(mutant)
        for path in mutant.files:
            part = self._parts.get(path)
            namespace, name = self._asked_for(path)
            found = self._get(namespace, name)
            if found is None:
                detected = True
                if self._get(namespace, name) is not None:
                    problem = "it came back"
            elif found != part:
                problem = f"other bytes were taken for the {name.kind.value} part"
        self._mend(mutant)
        return problem, detected

    def _asked_for(self, path: Path) -> tuple[Namespace, PartId]:
        if part := self._parts.get(path):
            return part.header.namespace, part.header.id
        origin = next(one for one, other in self.elsewhere.items() if other == path)
        part = self._parts[origin]
        return _foreign_to(part.header.namespace), part.header.id

    def _get(self, namespace: Namespace, name: PartId) -> StoredPart | None:
        try:
            return self.store.get(namespace, name)
        except (CacheCorruptionError, IncompatibleCacheError):
            return None

    def _mend(self, mutant: Mutant) -> None:
        """The store takes the right part again, whatever lies in its place."""
        known = [self._parts[path] for path in mutant.files if path in self._parts]
        if known:
            self.store.put(*known)
        for path in mutant.files:
            if path not in self._parts:
                path.unlink(missing_ok=True)

    def _path(self, part: StoredPart) -> Path:
        return self._listing.path(part.header.namespace, part.header.id)

    def _elsewhere(self, part: StoredPart) -> Path:
        return self._listing.path(_foreign_to(part.header.namespace), part.header.id)


def read_them(root: Path, count: int, seed: int, totals: Totals) -> None:
    """Mutants that the store reads."""
    subject = Subject(root)
    for mutant in subject.mutants(seed).take(count):
        problem, detected = subject.check(mutant)
        totals.note(mutant.kind, problem, detected=detected)
    subject.store.close()
    _expect_sound(root, totals)


def answer_from_them(
    root: Path, spec: ModelCacheSpec, count: int, seed: int, totals: Totals
) -> None:
    """Mutants that an engine meets while it answers."""
    with DiskEngine(root, spec).running() as engine:
        files: Files = {}
        asked_for: dict[Path, Tokens] = {}
        before: dict[Tokens, int] = {}
        for prompt in (_prompt(1), _prompt(2)):
            engine.ask(prompt)
            before[prompt] = engine.ask(prompt).cached
            fresh = [path for path in (root / "blk").rglob("*.st") if path not in files]
            files |= {path: path.read_bytes() for path in fresh}
            asked_for |= dict.fromkeys(fresh, prompt)
        mutants = Mutants(files, {path: _nowhere(path) for path in files}, "0" * 64, seed)
        for mutant in mutants.take(count):
            prompt = next((asked_for[one] for one in mutant.files if one in asked_for), _prompt(1))
            engine.telemetry.events.clear()
            _lay(mutant)
            problem = _answered(engine, prompt, before[prompt])
            detected = "block_set_aside" in engine.telemetry.names("warning")
            totals.note(mutant.kind, problem, detected=detected)
            for path in mutant.files:  # what no answer needed is as it was
                if path in files and path.read_bytes() != files[path]:
                    path.write_bytes(files[path])
    _expect_sound(root, totals)


def _answered(engine: DiskEngine, prompt: Tokens, before: int) -> str | None:
    """Ask, and ask again: what was wrong with the answers."""
    asked, again = engine.ask(prompt), engine.ask(prompt)
    if not (asked.right and again.right):
        return "the answer was wrong"
    if asked.cached > before or again.cached != before:
        return f"{asked.cached}, then {again.cached} tokens were remembered, {before} before"
    return None


def damage_index(root: Path, count: int, seed: int, totals: Totals) -> None:
    """An index that lies: a new process must not believe it, nor fail for it."""
    spec, prompt = _MODELS["full attention"], _prompt(1)
    index = root / "index.db"
    with DiskEngine(root, spec).running() as engine:
        engine.ask(prompt)
        before = engine.ask(prompt).cached
    whole = index.read_bytes()
    blocks = {path: path.read_bytes() for path in (root / "blk").rglob("*.st")}
    for kind, damaged in damaged_indexes(whole, root.parent, count, seed):
        index.write_bytes(damaged)
        problem = None
        try:
            # The first process finds the damage or sweeps it, the second computes what was lost.
            for last in (False, False, True):
                with DiskEngine(root, spec).running() as engine:
                    asked = engine.ask(prompt)
                if not asked.right:
                    problem = "the answer was wrong"
                # A tail under other tokens is not found, nor missed: its tokens are computed anew.
                elif last and asked.cached <= before - BLOCK_SIZE:
                    problem = f"it did not heal: {asked.cached} of {before}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            problem = f"it failed: {error!r}"
        totals.note(f"index: {kind}", problem, detected=problem is None)
        for path, data in blocks.items():
            path.write_bytes(data)
        for path in root.glob("index.db*"):
            path.unlink()
    _expect_sound(root, totals)


def damage_records(root: Path, count: int, seed: int, totals: Totals) -> None:
    """Agents' records: each is what was saved, or there is none."""
    agents = AgentFiles(root, RecordedTelemetry())
    names = [AgentId.parse(name, field="name") for name in ("ann", "ben")]
    records = [
        AgentRecord(
            agent.name, NAMESPACE, (Branch((Segment(agent.name, tuple(range(900))),)),), float(n)
        )
        for n, agent in enumerate(names)
    ]
    for agent, record in zip(names, records, strict=True):
        agents.save(agent, record)
    paths = [
        next(path for path in (root / "agents").iterdir() if one.name.encode() in path.read_bytes())
        for one in names
    ]
    whole, other = (path.read_bytes() for path in paths)
    for kind, damaged in itertools.islice(mutants(whole, other, each=count, seed=seed), count):
        paths[0].write_bytes(damaged)
        found = agents.load(names[0])
        problem = None if found in (None, records[0]) else "another record was taken for it"
        if found is not None and damaged != whole:
            problem = "damage was not seen"
        if any(one not in records for one in agents.list()):
            problem = "a damaged record was listed"
        agents.save(names[0], records[0])
        totals.note(f"record: {kind}", problem, detected=found is None)


def _lay(mutant: Mutant) -> None:
    for path, data in mutant.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _all_kinds(header: BlockHeader) -> Iterator[StoredPart]:
    for kind in (header.kind, PartKind.SLIDING, PartKind.STATE):
        yield part_of(replace(header, kind=kind))


def _foreign_to(namespace: Namespace) -> Namespace:
    return NAMESPACE if namespace == OTHER_NAMESPACE else OTHER_NAMESPACE


def _nowhere(path: Path) -> Path:
    """The path in a namespace that there is not."""
    return path.parents[2] / ("0" * len(path.parents[1].name)) / path.parent.name / path.name


def _prompt(of: int) -> Tokens:
    return tuple((of * 31 + position * 7) % 95 for position in range(540 + 10 * of))


def _expect_sound(root: Path, totals: Totals) -> None:
    """What is left is a sound store."""
    for fault in store_survey.faults(root, RecordedTelemetry()):
        if fault is not None and "0" * 12 not in str(fault.path):
            totals.wrong.append(f"left behind: {fault.path.name}: {fault.reason}")


def run(count: int, seed: int) -> Totals:
    """Try so many mutants of blocks, and of records and indexes a twentieth each."""
    totals = Totals()
    with quick_folder() as folder:
        each = count // _THROUGH_AN_ENGINE // len(_MODELS)
        read_them(folder / "read", count - each * len(_MODELS), seed, totals)
        for number, (name, spec) in enumerate(_MODELS.items()):
            answer_from_them(folder / name, spec, each, seed + number, totals)
        damage_records(folder / "records", count // _BESIDE, seed, totals)
        damage_index(folder / "index", count // _BESIDE, seed, totals)
    return totals


def main() -> int:
    """Damage, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    parser.add_argument("--seed", type=int, default=20261123)
    options = parser.parse_args()
    # Between an engine's threads: each waits for another most of the time.
    sys.setswitchinterval(_SWITCH_S)
    totals = run(options.mutants, options.seed)
    print(
        f"{sum(totals.tried.values())} mutants: {totals.detected} detected, {totals.identical} "
        f"identical or not needed, {len(totals.wrong)} wrong"
    )
    print("by class:", dict(totals.tried))
    for one in totals.wrong[:20]:
        print(f"  {one}")
    return int(bool(totals.wrong))


if __name__ == "__main__":
    sys.exit(main())
