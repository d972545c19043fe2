"""Many agents at once, measured and judged: part of `make bench`.

One server for all of it, and a process with the same model and no server, which take turns. Prompts
are new each time: no cache answers. Exits with 1 if a promise is broken.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench import batch_decode, decode_gap, throughput
from bench.bare_engine import BareEngine
from bench.fresh_prompts import FreshPrompts
from bench.promises import show
from bench.server_process import ServerProcess
from rich.console import Console

from semantic.adapters.config.sources import load_settings

MS_A_SECOND = 1000


def main() -> int:
    """Measure all; 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6, help="chooses the prompts")
    options = parser.parse_args()
    console, prompts = Console(), FreshPrompts(options.seed)
    with tempfile.TemporaryDirectory(prefix="semantic-bench-") as name, BareEngine() as engine:
        folder = Path(name)
        with ServerProcess(folder / "store", log=folder / "server.log") as server:
            console.rule("the server's work and a bare loop's")
            rounds = throughput.measure(server.url, engine, prompts, console)
            console.rule("one and eight at once")
            gains = batch_decode.measure(server.url, engine, prompts, console)
            console.rule("a long prompt beside four answers")
            gaps = decode_gap.measure(server.url, prompts, console)
            server.stop()
    checks = [
        *throughput.checks(rounds),
        *batch_decode.checks(gains),
        *decode_gap.checks(gaps, load_settings().engine.decode_stall_ms_cpu / MS_A_SECOND),
    ]
    return 0 if show(console, checks) else 1


if __name__ == "__main__":
    sys.exit(main())
