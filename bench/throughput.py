"""All the server's work against a bare `BatchGenerator` loop on the same prompts.

Eight prompts that nobody has read before, asked at once; from the first request to the end of the
last answer. Same model, same BLAS, same chunks. Server and loop take turns, also in going first.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.bare_engine import BareEngine, Work
from bench.fresh_prompts import FreshPrompts
from bench.promises import Check
from bench.token_stream import TokenStream
from rich.console import Console

PROMPTS = (384,) * 8
"""Tokens of each prompt, roughly: all are read before the first is answered, by either."""
ANSWER = 64
ROUNDS = 3
MIN_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Round:
    """The same prompts answered by both."""

    server: Work
    bare: Work

    @property
    def share(self) -> float:
        """Of the loop's throughput."""
        return self.server.rate / self.bare.rate


def measure(url: str, engine: BareEngine, prompts: FreshPrompts, console: Console) -> list[Round]:
    """Rounds, told as they come."""
    rounds = []
    for number in range(ROUNDS):
        texts = [prompts.make(tokens) for tokens in PROMPTS]
        if number % 2:
            bare = engine.answer(texts, ANSWER)
            server = _served(url, texts)
        else:
            server = _served(url, texts)
            bare = engine.answer(texts, ANSWER)
        rounds.append(Round(server, bare))
        console.print(
            f"{len(texts)} prompts: {server.tokens} tokens in {server.seconds:.1f} s; a bare loop "
            f"{bare.tokens} in {bare.seconds:.1f} s",
            highlight=False,
        )
    return rounds


def _served(url: str, texts: list[str]) -> Work:
    begin = time.perf_counter()
    with ExitStack() as stack:
        streams = [
            stack.enter_context(TokenStream(url, text, ANSWER, agent=f"agent {number}"))
            for number, text in enumerate(texts)
        ]
        tokens = sum(stream.wait().usage["completion_tokens"] for stream in streams)
    return Work(tokens, max(stream.ended_at for stream in streams) - begin)


def checks(rounds: list[Round]) -> list[Check]:
    """The promise, on the median round."""
    share = median(one.share for one in rounds)
    return [
        Check(
            f"the server makes at least {MIN_SHARE:.0%} of a bare loop's tokens a second on "
            f"{len(PROMPTS)} prompts at once: {share:.0%}",
            share >= MIN_SHARE,
        )
    ]
