"""What the experiments share: the default model on a preloaded BLAS, and a list of claims."""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from semantic.adapters.config.sources import load_settings
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog

TEXT = """The harbour master kept two books. In the first he wrote what came in: salt from the
south, timber from the north, letters tied with red thread, and once a crate of oranges that had
survived a storm off the cape. In the second he wrote what went out, and over the years the two
had drifted apart, so that by his reckoning the town ought to have owned eleven ships more than
anyone could find. He did not think that they were lost. He thought that they were late. Every
evening he walked to the end of the mole with a lamp and counted the lights on the water, and
every evening he wrote the number down and compared it with the number of the day before. His
daughter, who had learned arithmetic from the books and patience from nobody, said that a ship
that is forty years late is a ship that has sunk. The harbour master answered that this depended
on the ship. In the winter of the great frost the sea went quiet and grey as slate, and the men
who mended nets in the loft above the customs house began to tell one another about the eleven
ships: what they had carried, who had sailed in them, which of them had been seen, and where. One
was said to lie in the ice with her lamps still burning. Another had been sold by her captain and
carried sheep between islands whose names nobody could agree on. When the thaw came, the daughter
opened the second book and found between its pages a slip of paper, in a hand that was not her
father's, with a single line on it."""


@dataclass
class Claims:
    """What an experiment asserts; each is printed as it is decided."""

    failed: list[str] = field(default_factory=list)

    def check(self, claim: str, *, holds: bool) -> None:
        """Note whether a claim holds."""
        print(f"  {'holds ' if holds else 'FAILS '} {claim}")
        if not holds:
            self.failed.append(claim)

    def finish(self) -> None:
        """Exit with 1 if a claim failed."""
        print(f"\n{len(self.failed)} claims failed" if self.failed else "\nall claims hold")
        sys.exit(1 if self.failed else 0)


@dataclass(frozen=True)
class Setting:
    """A model and the tokens of `TEXT`."""

    model: Any
    tokenizer: Any
    tokens: list[int]


def prepare(title: str) -> Setting:
    """Load OpenBLAS, then MLX, then the default model; say on what this runs."""
    cache_dir = load_settings().model.cache_path
    chosen = blas.preload(cache_dir, threads=1)  # one, so that every run computes the same

    from semantic.adapters.outbound.mlx import default_model  # noqa: PLC0415 - after the BLAS
    from semantic.adapters.outbound.mlx.model_loader import load_weights  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer  # noqa: PLC0415

    folder = default_model.prepare(cache_dir, StructuredLog())
    model, _ = load_weights(folder)
    tokenizer = MlxTokenizer.load(folder)
    print(title)
    print(f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}, {default_model.MODEL_ID} in float32")
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {chosen.name}")
    return Setting(model, tokenizer, list(tokenizer.encode(TEXT)))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    start = time.perf_counter()
    yield
    print(f"  {time.perf_counter() - start:7.3f} s  {what}")
