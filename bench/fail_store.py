"""Lets every call that a store makes of the system fail, and sees that every request is answered.

An application without a model runs over a real store. First each call of a turn fails, one after
the other, by EIO, ENOSPC and EMFILE; then calls stall until they are let go on; then calls fail at
random on one application, a thousand times. Every answer must come and be right, and afterwards
the store must work, and no descriptor, thread or memory be kept; of memory both the objects and
the bytes are counted. Exits with 1 otherwise.
"""

import argparse
import gc
import os
import random
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.disk_app import DiskApp, Talk
from tests.fakes.disk_engine import quick_folder
from tests.fakes.failing_calls import ERRORS, FailingCalls, Stall

RANDOM_FAULTS = 1000
_SHARE = 0.08
_SWITCH_S = 1e-4
_STALL_PATIENCE_S = 0.25
_WARM_TURNS = 10
_KEPT_BLOCKS = 80
"""Objects that a new conversation may leave in memory: what is known of its blocks takes 40."""
_KEPT_BYTES = 12_000
"""And bytes: that takes 8,300. With the parts that could not be written it would be 15,500."""
_OPENING = "".join(chr(97 + n * 7 % 26) for n in range(280))
"""A block and a tail, with what the template adds."""


@dataclass
class Totals:
    """What came of it."""

    faults: int = 0
    answers: int = 0
    met: Counter[str] = field(default_factory=Counter)
    kept: float = 0.0
    """Objects that a conversation left in memory, while calls failed."""
    kept_bytes: float = 0.0
    """What it left there in all."""
    wrong: list[str] = field(default_factory=list)


class Faults:
    """One application and its faults."""

    def __init__(self, app: DiskApp, calls: FailingCalls, totals: Totals) -> None:
        self._app, self._calls, self._totals = app, calls, totals
        self._count = 0

    def turns(self) -> Talk:
        """A new agent's first turn, which writes, and a second one, which reads."""
        self._count += 1
        talk = Talk(f"agent {self._count}")
        self._app.ask(talk, f"{self._count} {_OPENING}")
        self._app.catch_up()
        self._app.ask(talk, "go on")
        self._app.catch_up()
        return talk

    def healthy(self, when: str) -> None:
        """All that is written comes back."""
        self._calls.begin()
        talk = self.turns()
        remembered = self._app.ask(talk, "and on")
        self._app.catch_up()
        if remembered < len(_OPENING):
            self._totals.wrong.append(f"after {when} only {remembered} tokens are remembered")

    def each_call_fails(self, every: int) -> None:
        """The calls of two turns one after the other, by each error or by turns."""
        self.turns()
        self._calls.begin()
        self.turns()
        number = len(self._calls.calls)
        for at in range(number):
            for error in ERRORS if every == 1 else (ERRORS[at % len(ERRORS)],):
                self._calls.begin(at, error)
                self.turns()
                self.note(at, os.strerror(error))
        self.healthy("every call had failed")

    def fail_at_random(self, faults: int, seed: int) -> None:
        """Until so many calls have failed."""
        luck = random.Random(seed)  # noqa: S311 - reproducible, no secrets
        for _ in range(_WARM_TURNS):
            self._turns_at_random(luck)
        self.healthy("some calls had failed")
        before, start, turns = _held(), self._calls.failed, 0
        blocks, nbytes = _memory()
        while self._calls.failed - start < faults:
            self._turns_at_random(luck)
            turns += 1
        blocks_after, nbytes_after = _memory()
        self.healthy("a thousand calls had failed")
        self._totals.faults += self._calls.failed - start
        self._totals.kept = kept = (blocks_after - blocks) / turns
        self._totals.kept_bytes = kept_bytes = (nbytes_after - nbytes) / turns
        if _held() != before:
            self._totals.wrong.append(f"descriptors, threads: {before} before, {_held()} after")
        if kept > _KEPT_BLOCKS:
            self._totals.wrong.append(f"a turn keeps {kept:.0f} objects")
        if kept_bytes > _KEPT_BYTES:
            self._totals.wrong.append(f"a turn keeps {kept_bytes:.0f} bytes")

    def _turns_at_random(self, luck: random.Random) -> None:
        self._calls.begin_at_random(luck, _SHARE)
        self.turns()
        self._app.disk.telemetry.events.clear()

    def note(self, at: int, fault: str) -> None:
        """Count a fault that a call met, and what came of it."""
        name = self._calls.calls[at] if at < len(self._calls.calls) else "no call"
        self._totals.faults += 1
        self._totals.met[name] += 1
        for one in self._app.wrong:
            self._totals.wrong.append(f"{fault} at call {at}, {name}: {one}")
        self._app.wrong.clear()


def stall(root: Path, every: int, totals: Totals) -> None:
    """Each call of two turns, or every so manieth, waits until the answers have come."""
    calls = FailingCalls(root)
    with calls.patched(), DiskApp(root, patience_s=_STALL_PATIENCE_S).running() as app:
        one = Faults(app, calls, totals)
        one.turns()
        calls.begin()
        one.turns()
        number = len(calls.calls)
        for at in range(0, number, every):
            gate = Stall()
            calls.begin(at, gate)
            talk = Talk(f"stalled {at}")
            app.ask(talk, f"{at} {_OPENING}")
            app.ask(talk, "go on")
            gate.opened.set()
            app.catch_up()
            one.note(at, "a stall")
        one.healthy("calls had stalled")


def _held() -> tuple[int, int]:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def _memory() -> tuple[int, int]:
    """Pieces of memory that Python holds, and the bytes of all that can be reached.

    `tracemalloc` would tell the same, and take three times as long for all.
    """
    gc.collect()
    pieces = sys.getallocatedblocks()
    seen: set[int] = set()
    nbytes = 0
    found = gc.get_objects()
    while found:
        new = {id(one): one for one in found if id(one) not in seen}
        seen.update(new)
        nbytes += sum(sys.getsizeof(one, 0) for one in new.values())
        found = gc.get_referents(*new.values())
    return pieces, nbytes


def run(faults: int, every: int) -> Totals:
    """All of it; with `every` above 1 not each call meets each fault."""
    totals = Totals()
    with quick_folder() as folder:
        calls = FailingCalls(folder / "fail")
        with calls.patched(), DiskApp(folder / "fail").running() as app:
            one = Faults(app, calls, totals)
            one.each_call_fails(every)
            one.fail_at_random(faults, seed=20261123)
            totals.wrong += app.wrong
            totals.answers += app.right
        stall(folder / "stall", every, totals)
    return totals


def main() -> int:
    """Let fail, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=RANDOM_FAULTS)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    sys.setswitchinterval(_SWITCH_S)
    found = run(options.faults, options.every)
    print(f"{found.faults} faults: {found.answers} answers right, {len(found.wrong)} things wrong")
    print(f"a conversation left {found.kept:.0f} objects, {found.kept_bytes:.0f} bytes in memory")
    print("calls that failed or stalled:", dict(found.met))
    for one in found.wrong[:30]:
        print(f"  {one}")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
