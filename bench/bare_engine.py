"""The server's model in a process of its own, without the server, asked over a pipe.

It answers prompts by a bare `BatchGenerator` loop, in chunks of the server's size, and decodes on
our own executor. It waits between two questions, so that it and a server can take turns.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from bench.bare_loop import Bare, loaded

from semantic.domain.block import PartKind
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.chat import ChatMessage, Role
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock

_GREEDY = SamplingParams(temperature=0)
_TOGETHER = 8
"""`BatchGenerator`'s own number of prompts that it reads together."""
_TEXT = "One two three four five six seven eight nine ten. "


@dataclass(frozen=True, slots=True)
class Work:
    """`tokens` were generated in `seconds`, prompts included where there were any."""

    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Generated tokens a second."""
        return self.tokens / self.seconds


class BareEngine:
    """The process, from outside. Use as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare_engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self, prompts: Sequence[str], max_tokens: int, together: int = _TOGETHER) -> Work:
        """Answer prompts, all asked at once; at most `together` are read at a time."""
        return self._ask({"prompts": prompts, "max_tokens": max_tokens, "together": together})

    def decode(self, batch: int, steps: int) -> Work:
        """Decode so many sequences that have a block of context, on our executor."""
        return self._ask({"batch": batch, "steps": steps})

    def _ask(self, question: dict[str, Any]) -> Work:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bare engine has died")
        return Work(**json.loads(line))


class _Decoder:
    """Our executor over a block of context that is computed once."""

    def __init__(self, bare: Bare) -> None:
        from tests.fakes.random_models import capabilities  # noqa: PLC0415 - after the BLAS

        from semantic.adapters.outbound.mlx.executor import MlxExecutor  # noqa: PLC0415

        self._executor = MlxExecutor(bare.model, capabilities(bare.model))
        text = bare.tokenizer.encode(_TEXT * BLOCK_SIZE)
        self._context, self._token = text[:BLOCK_SIZE], text[BLOCK_SIZE]
        first = SequenceId(0)
        self._executor.attach(first, (), (), _GREEDY)
        self._executor.run(StepPlan(prefill=PrefillChunk(first, self._context, last=False)))
        block = self._executor.seal(first, 0, BLOCK_SIZE, PartKind.FULL)
        if block is None:
            raise RuntimeError("the block was not there to be kept")
        self._block = AttachedBlock(block, BLOCK_SIZE)
        self._executor.release(first)

    def decode(self, batch: int, steps: int) -> Work:
        """One step unmeasured, in which the batch is put together; then so many that are."""
        sequences = tuple(SequenceId(number) for number in range(batch))
        for number, sequence in enumerate(sequences):
            self._executor.attach(sequence, self._context, [self._block], _GREEDY)
            joins = sequences[0] if number else None
            chunk = PrefillChunk(sequence, (self._token,), last=True, joins=joins)
            self._executor.run(StepPlan(sequences[:number], chunk))
        plan = StepPlan(sequences)
        self._executor.run(plan)
        begin = time.perf_counter()
        for _ in range(steps):
            self._executor.run(plan)
        seconds = time.perf_counter() - begin
        for sequence in sequences:
            self._executor.release(sequence)
        return Work(batch * steps, seconds)


def _answered(bare: Bare, prompts: Sequence[str], max_tokens: int, together: int) -> Work:
    """What mlx-lm makes of the prompts, from text to the last token."""
    from mlx_lm.generate import BatchGenerator  # noqa: PLC0415 - after the BLAS

    begin = time.perf_counter()
    encoded = [list(bare.encoded([ChatMessage(Role.USER, prompt)])) for prompt in prompts]
    generator = BatchGenerator(
        bare.model,
        stop_tokens=[[token] for token in bare.tokenizer.stop_tokens],
        prefill_step_size=bare.chunk,
        prefill_batch_size=together,
    )
    left = set(generator.insert(encoded, [max_tokens] * len(encoded)))
    tokens = 0
    while left:
        responses = generator.next_generated()  # type: ignore[no-untyped-call] # mlx-lm is untyped
        tokens += len(responses)
        left -= {response.uid for response in responses if response.finish_reason}
    seconds = time.perf_counter() - begin
    generator.close()  # type: ignore[no-untyped-call]
    return Work(tokens, seconds)


def main() -> None:
    """Answer questions until nobody asks any more."""
    bare = loaded()
    decoder = _Decoder(bare)
    for line in sys.stdin:
        question = json.loads(line)
        work = partial(_answered, bare) if "prompts" in question else decoder.decode
        print(json.dumps(asdict(work(**question))), flush=True)


if __name__ == "__main__":
    main()
