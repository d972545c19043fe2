"""What a long prompt does to those who are being answered, and they to it.

Four agents are answered at a context of 256 tokens, and a prompt of 4,000 arrives beside them. A
gap is the time between two pieces of an agent's answer, seen at the client's socket. Those that
count as disturbed reach from the long prompt's arrival to its own first tokens, so its joining the
batch is among them. A prompt of that length is also read alone, before and after.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.fresh_prompts import FreshPrompts
from bench.promises import Check
from bench.token_stream import TokenStream, gaps
from rich.console import Console

AGENTS = 4
CONTEXT = 256
LONG_PROMPT = 4000
QUIET_TOKENS = 24
"""Of each agent, before the long prompt comes."""
FIRST_TOKENS = 4
"""Of the long prompt's answer, which are waited for."""
_ANSWER = 1500
"""Longer than anybody waits for."""
MAX_TARGETS = 2.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Gaps:
    """`alone_s`: seconds to the long prompt's first token with nobody beside it, each time."""

    quiet: list[float]
    disturbed: list[float]
    alone_s: list[float]
    beside_s: float
    prompt_tokens: int


class Agents:
    """So many answers under way at any time: who has ended begins with another prompt."""

    def __init__(self, url: str, prompts: FreshPrompts, count: int) -> None:
        self._url, self._prompts = url, prompts
        self._running = [self._begun() for _ in range(count)]
        self._all = list(self._running)

    def keep_up(self) -> None:
        """Replace the answers that have ended."""
        for place, stream in enumerate(self._running):
            if stream.over:
                self._running[place] = self._begun()
                self._all.append(self._running[place])

    def decode(self, tokens: int) -> None:
        """Return once each has so many more tokens."""
        wanted = [len(stream.times) + tokens for stream in self._running]
        for stream, count in zip(self._running, wanted, strict=True):
            stream.wait_for(count)

    def gaps(self, begin: float, end: float) -> list[float]:
        """All agents' gaps within begin..end."""
        return [gap for stream in self._all for gap in gaps(stream, begin, end)]

    def hang_up(self) -> None:
        """End them all."""
        for stream in self._all:
            stream.__exit__()

    def _begun(self) -> TokenStream:
        return TokenStream(self._url, self._prompts.make(CONTEXT), _ANSWER).__enter__()


@contextmanager
def agents(url: str, prompts: FreshPrompts, count: int) -> Iterator[Agents]:
    """Agents that are being answered, all of them."""
    found = Agents(url, prompts, count)
    try:
        found.decode(1)
        yield found
    finally:
        found.hang_up()


def measure(url: str, prompts: FreshPrompts, console: Console) -> Gaps:
    """Alone, beside the agents, and alone again."""
    prompt = prompts.make(LONG_PROMPT)
    before_s = _alone(url, prompt)
    console.print(f"a prompt of {LONG_PROMPT} tokens, alone: first token after {before_s:.1f} s")
    with agents(url, prompts, AGENTS) as talking:
        begin = time.perf_counter()
        talking.decode(QUIET_TOKENS)
        arrived = time.perf_counter()
        with TokenStream(url, prompts.again(prompt), FIRST_TOKENS) as long:
            while not long.ends_within(_LOOK_S):
                talking.keep_up()
            long.wait()
        joined = time.perf_counter()
        quiet, disturbed = talking.gaps(begin, arrived), talking.gaps(arrived, joined)
    console.print(f"beside {AGENTS} agents: first token after {long.ttft_s:.1f} s")
    after_s = _alone(url, prompts.again(prompt))
    console.print(f"alone once more: {after_s:.1f} s")
    return Gaps(quiet, disturbed, [before_s, after_s], long.ttft_s, long.usage["prompt_tokens"])


def _alone(url: str, prompt: str) -> float:
    with TokenStream(url, prompt, 1) as long:
        return long.wait().ttft_s


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def checks(found: Gaps, target_s: float) -> list[Check]:
    """The promise, and beside it what is only told."""
    late = percentile(found.disturbed, 0.99)
    quiet, disturbed = (
        f"p50 {statistics.median(values) * 1e3:.0f} ms, p99 {percentile(values, 0.99) * 1e3:.0f} "
        f"ms of {len(values)} gaps"
        for values in (found.quiet, found.disturbed)
    )
    alone_s = statistics.median(found.alone_s)
    return [
        Check(
            f"{AGENTS} agents that decode wait at most {MAX_TARGETS:.0f} x {target_s * 1e3:.0f} ms "
            f"(p99) beside a prompt of {found.prompt_tokens} tokens: {disturbed}; before: {quiet}; "
            f"that prompt takes {found.beside_s:.1f} s, {found.beside_s / alone_s:.2f} x alone",
            late <= MAX_TARGETS * target_s,
        )
    ]
