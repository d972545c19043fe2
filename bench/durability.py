"""What durability costs: an answer's last event, full against relaxed; blocks synced together.

    python -m bench.durability

Ratios of one run, turn by turn in alternation: the disk's moods strike both alike. Judges nothing.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.conversations import SCRIPTS
from bench.server_process import ServerProcess
from openai import OpenAI

from semantic.adapters.outbound.storage.durable_file import write_file, write_files

LEVELS = ("full", "relaxed")
WORDS = 16
TURNS = 9
BLOCKS = 16
ROUNDS = 5
BLOCK_BYTES = (200 << 10, 2 << 20, 9 << 20)


def ends(folder: Path, history_tokens: int) -> dict[str, tuple[float, float]]:
    """By level: median seconds from an answer's last word to its last event, and of all of it."""
    seen: dict[str, list[tuple[float, float]]] = {level: [] for level in LEVELS}
    with ExitStack() as stack:
        servers = {
            level: stack.enter_context(
                ServerProcess(
                    folder / level,
                    log=folder / f"{level}.log",
                    settings={"SEMANTIC_STORE__DURABILITY": level},
                )
            )
            for level in LEVELS
        }
        for turn, level in itertools.product(range(TURNS), LEVELS):
            text = f"{turn}. {SCRIPTS[0].page(history_tokens)}"
            seen[level].append(_end(servers[level].url, f"agent {turn}", text))
    return {
        level: (median(end for end, _ in found), median(whole for _, whole in found))
        for level, found in seen.items()
    }


def _end(url: str, agent: str, text: str) -> tuple[float, float]:
    client = OpenAI(base_url=url, api_key="not needed", max_retries=0, timeout=600)
    begin = last = time.perf_counter()
    answer = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": text}],
        max_tokens=WORDS,
        temperature=0,
        stream=True,
        extra_headers={"X-Agent-ID": agent},
    )
    for event in answer:
        if event.choices and event.choices[0].delta.content:
            last = time.perf_counter()
    end = time.perf_counter()
    return end - last, end - begin


def synced(folder: Path, nbytes: int) -> dict[str, float]:
    """Median seconds until blocks of `nbytes` are safe: each by itself, and all together."""
    data = Path("/dev/urandom").open("rb").read(nbytes)  # noqa: SIM115 - closed with it

    def each(paths: list[Path]) -> None:
        for path in paths:
            write_file(path, (data,))

    def together(paths: list[Path]) -> None:
        write_files([(path, (data,)) for path in paths])

    ways: dict[str, Callable[[list[Path]], None]] = {"each": each, "together": together}
    seen: dict[str, list[float]] = {way: [] for way in ways}
    for number, (way, write) in itertools.product(range(ROUNDS), ways.items()):
        place = folder / f"{way}-{number}"
        place.mkdir()
        begin = time.perf_counter()
        write([place / str(block) for block in range(BLOCKS)])
        seen[way].append(time.perf_counter() - begin)
        shutil.rmtree(place)
    return {way: median(found) for way, found in seen.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history-tokens", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="semantic-durability-") as folder:
        for nbytes in BLOCK_BYTES:
            found = synced(Path(folder), nbytes)
            print(
                f"{BLOCKS} blocks of {nbytes >> 10} KiB: synced each {found['each'] * 1e3:.0f} ms, "
                f"together {found['together'] * 1e3:.0f} ms: "
                f"{found['each'] / found['together']:.1f}x"
            )
        full, relaxed = ends(Path(folder), options.history_tokens).values()
        print(
            f"from the last word to the last event: full {full[0] * 1e3:.1f} ms, relaxed "
            f"{relaxed[0] * 1e3:.1f} ms: {full[0] / relaxed[0]:.1f}x; of the whole answer "
            f"{full[1] / relaxed[1]:.3f}x"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
