"""What power loss leaves of a store, over and over: `make soak` tries 100,000 states.

The system calls of the real store are recorded, and states made of them that a disk with a
volatile cache may hold. Each is read by the store's own code and held against what was
acknowledged; some are laid out on a real disk, and the whole store opened on them. Exits with 1 if
one is bad.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.power_loss_check import Judge
from tests.fakes.power_loss_workloads import Recording, recordings

STATES = 100_000
OPENED = 3_000
"""States on which the whole store is opened."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


@dataclass
class Tried:
    """How many states were judged, on how many the store was opened, and what was wrong."""

    states: int = 0
    opened: int = 0
    bad: list[str] = field(default_factory=list)


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder, in memory where that is possible: what is tried here is no disk."""
    in_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    return tempfile.TemporaryDirectory(
        prefix="semantic-power-loss-", dir=_MEMORY if in_memory else None
    )


def recorded(folder: Path) -> list[Recording]:
    """What the workloads do to a disk."""
    place = folder / "recorded"
    place.mkdir()
    return list(recordings(place))


def run(found: Sequence[Recording], folder: Path, states: int, opened: int, seed: int = 0) -> Tried:
    """Try so many states of recordings, of the longer ones more, and open the store on some."""
    tried = Tried()
    numbers = random.Random(seed)  # noqa: S311 - reproducible, no secrets
    # Each workload is tried as often as the others, however many ways there are to be killed in it.
    lengths: dict[str, int] = {}
    for one in found:
        lengths[one.workload] = lengths.get(one.workload, 0) + len(one.trace)
    weights = [len(one.trace) / lengths[one.workload] for one in found]
    of = numbers.choices(range(len(found)), weights, k=states + opened)
    for number, recording in enumerate(found):
        judge = Judge(recording.trace, folder / f"judged-{recording.name}")
        for state in judge.loss.states(of[:states].count(number), seed):
            tried.states += 1
            bad = judge.problems(state)
            tried.bad += [f"{recording.name}, {state.cut}: {problem}" for problem in bad]
        for state in judge.loss.states(of[states:].count(number), seed + 1):
            tried.opened += 1
            with tempfile.TemporaryDirectory(dir=folder) as place:
                bad = judge.problems_when_opened(state, Path(place))
                tried.bad += [f"{recording.name}, {state.cut}: {problem}" for problem in bad]
    return tried


def main() -> int:
    """Try states; 0 if none was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=STATES)
    parser.add_argument("--opened", type=int, default=OPENED)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    with scratch() as folder:
        found = recorded(Path(folder))
        tried = run(found, Path(folder), options.states, options.opened, options.seed)
    print(
        f"power loss: {tried.states} states of {len(found)} recordings, and {tried.opened} on "
        f"which the store was opened: {len(tried.bad)} bad ({time.perf_counter() - begin:.0f} s)"
    )
    for problem in tried.bad[:20]:
        print(f"  {problem}")
    return 1 if tried.bad or not tried.states else 0


if __name__ == "__main__":
    sys.exit(main())
