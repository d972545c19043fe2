"""Eight answers at once against one: tokens a second while all of them decode.

At a context of 256 tokens; on the executor alone, and through the server. One and eight take turns.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.bare_engine import BareEngine
from bench.fresh_prompts import FreshPrompts
from bench.promises import Check
from bench.token_stream import TokenStream, rate
from rich.console import Console

CONTEXT = 256
BATCH = 8
STEPS = 24
"""Of the executor, each time."""
ROUNDS = 3
SERVER_ROUNDS = 2
ANSWER = 40
"""Of the server, whose answers begin one after the other: some of it is decoded beside fewer."""
MIN_GAIN = 4.0


@dataclass(frozen=True, slots=True)
class Gain:
    """Tokens a second of one and of the batch, a pair for each round."""

    where: str
    rounds: list[tuple[float, float]]

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return median(many / one for one, many in self.rounds)

    def __str__(self) -> str:
        one = median(pair[0] for pair in self.rounds)
        many = median(pair[1] for pair in self.rounds)
        return f"{self.where}: {one:.1f} tokens a second alone, {many:.1f} of {BATCH}"


def of_executor(engine: BareEngine) -> Gain:
    """Without a server."""
    engine.decode(BATCH, 1)
    return Gain(
        "executor",
        [(engine.decode(1, STEPS).rate, engine.decode(BATCH, STEPS).rate) for _ in range(ROUNDS)],
    )


def of_server(url: str, prompts: FreshPrompts) -> Gain:
    """Streams, timed at the client."""
    return Gain(
        "server",
        [(_decoded(url, prompts, 1), _decoded(url, prompts, BATCH)) for _ in range(SERVER_ROUNDS)],
    )


def measure(url: str, engine: BareEngine, prompts: FreshPrompts, console: Console) -> list[Gain]:
    """Both, told as they come."""
    gains = [of_executor(engine), of_server(url, prompts)]
    for gain in gains:
        console.print(str(gain), highlight=False)
    return gains


def _decoded(url: str, prompts: FreshPrompts, count: int) -> float:
    texts = [prompts.make(CONTEXT) for _ in range(count)]
    for text in texts:  # read beforehand, so that all begin to decode at once
        with TokenStream(url, text, 1) as stream:
            stream.wait()
    with ExitStack() as stack:
        streams = [stack.enter_context(TokenStream(url, text, ANSWER)) for text in texts]
        return rate([stream.wait() for stream in streams])


def checks(gains: list[Gain]) -> list[Check]:
    """The promise, of the steps themselves; what clients see of it is told beside it."""
    executor, server = gains
    return [
        Check(
            f"{BATCH} decodes at context {CONTEXT} make at least {MIN_GAIN:.0f} times the tokens a "
            f"second of one: {executor.ratio:.1f} times ({executor}); at the client "
            f"{server.ratio:.1f} times ({server})",
            executor.ratio >= MIN_GAIN,
        )
    ]
