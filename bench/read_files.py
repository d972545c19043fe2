"""The floor of a restart: a new process reads a store's blocks into its memory, and does no more.

In a process of its own, since one that has run for a while reads into memory that it has at hand,
while a new one must first be given each page: on some virtual machines that takes several times as
long as copying it. Takes the store's folder, prints the seconds.
"""

import sys
import time
from pathlib import Path


def main() -> None:
    """Measure one store."""
    files = sorted((Path(sys.argv[1]) / "blk").rglob("*.st"))
    begin = time.perf_counter()
    held = [file.read_bytes() for file in files]
    seconds = time.perf_counter() - begin
    if not sum(map(len, held)):
        raise SystemExit("the store has no blocks")
    print(seconds)


if __name__ == "__main__":
    main()
