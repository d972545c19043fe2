"""What it costs to hold answers to a form: time of a token with masks against one without.

On the executor alone, at a context of 256 tokens, of one answer and of eight. With and without take
turns in one run, so that their ratio holds where the machine's speed does not. `--shape 8b` takes
random weights of Llama 3.1 8B's shape in bfloat16 and a vocabulary of its size, for a GPU.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.bare_loop import loaded

from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.chat import Conversation
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.domain.tools import NO_TOOLS, JsonAnswer, Tool, ToolUse
from semantic.ports.answer_constraints import Constraint, TokenMask
from semantic.ports.tokenizer import TokenDecoder, Tokenizer

if TYPE_CHECKING:
    from mlx.nn.layers.base import Module

    from semantic.adapters.outbound.mlx.executor import MlxExecutor

CONTEXT = 256
STEPS = 32
"""Of each kind in each round; the first is not counted."""
ROUNDS = 3
BATCHES = (1, 8)
_US, _MS = 1e6, 1e3

SHAPE_8B: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}

_RECORDS = {
    "type": "array",
    "minItems": 10_000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["file", "folder", "link"]},
            "size": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"type": "string"}},
            "owner": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}},
        },
        "required": ["name", "kind", "size"],
        "additionalProperties": False,
    },
}
"""So long that no answer comes to its end."""


@dataclass(slots=True)
class Timed:
    """A constraint whose masks count what they take, and never let an answer end."""

    constraint: Constraint
    ends: frozenset[TokenId]
    seconds: list[float] = field(default_factory=list)

    def begin(self) -> "TimedMask":
        """A mask that counts."""
        return TimedMask(self, self.constraint.begin())


@dataclass(slots=True)
class TimedMask:
    """Counts a token's `accept` and `allowed` together, on the core that they have had."""

    timed: Timed
    mask: TokenMask
    accepting: float = 0.0

    def accept(self, token: TokenId) -> None:
        """Counted with the mask that follows."""
        begin = time.thread_time()
        self.mask.accept(token)
        self.accepting = time.thread_time() - begin

    def allowed(self) -> bytes | None:
        """The mask without the end."""
        begin = time.thread_time()
        found = self.mask.allowed()
        self.timed.seconds.append(self.accepting + time.thread_time() - begin)
        if found is None:
            return None
        bits = bytearray(found)
        for end in self.timed.ends:
            bits[end // 8] &= ~(1 << end % 8)
        return bytes(bits)


class WideTokenizer:
    """A tokenizer with more tokens: pairs of its own, so that masks are made for as many."""

    def __init__(self, narrow: Tokenizer, size: int, width: int) -> None:
        self._narrow = narrow
        self._size = size
        self._extra = list(_pairs(narrow, size, width - size))
        self.syntax: AnswerSyntax = narrow.syntax
        self.stop_tokens = narrow.stop_tokens
        self.special_tokens = narrow.special_tokens

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        """As the other does."""
        return self._narrow.render(conversation, answered=answered)

    def encode(self, text: str) -> tuple[TokenId, ...]:
        """As the other does."""
        return self._narrow.encode(text)

    def decode(self, tokens: Sequence[TokenId]) -> str:
        """Of all tokens."""
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")

    def token_bytes(self, token: TokenId) -> bytes:
        """Of all tokens."""
        if token < self._size:
            return self._narrow.token_bytes(token)
        return self._extra[token - self._size]

    def decoder(self) -> TokenDecoder:
        """As the other does."""
        return self._narrow.decoder()


def _pairs(narrow: Tokenizer, size: int, count: int) -> Iterator[bytes]:
    """Texts of two tokens each, all different from one another and from single ones."""
    words = [narrow.token_bytes(TokenId(token)) for token in range(size)]
    seen = set(words)
    first, step = 300, 1
    while count > 0:
        pair = words[first] + words[(first + step) % size]
        first = first + 1 if first + 1 < size else 300
        step += first == 300  # noqa: PLR2004 - behind the bytes, which stand first
        if pair not in seen:
            seen.add(pair)
            count -= 1
            yield pair


def tools(count: int, properties: int) -> ToolUse:
    """As coding agents offer them: some kilobytes of schema each."""
    described = "What this is for, in as many words as such a description has. " * 3
    kinds: list[dict[str, object]] = [
        {"type": "string"},
        {"type": "integer", "minimum": 0},
        {"type": "boolean", "default": False},
        {"type": "array", "items": {"type": "string"}},
        {"enum": ["content", "files_with_matches", "count"]},
    ]
    found = []
    for number in range(count):
        told = {
            f"argument_{place}": {**kinds[(number + place) % len(kinds)], "description": described}
            for place in range(properties)
        }
        schema = {"type": "object", "properties": told, "required": ["argument_0"]}
        found.append(Tool(f"tool_{number}", described, json.dumps(schema)))
    return ToolUse(tuple(found))


class Steps:
    """Batches on one executor, decoded step by step."""

    def __init__(self, executor: "MlxExecutor", prompt: Sequence[TokenId]) -> None:
        self._executor = executor
        self._prompt = tuple(prompt)

    def seconds(self, batch: int, constraint: Constraint | None) -> float:
        """Of one step of that batch: the median."""
        sequences = tuple(SequenceId(number) for number in range(batch))
        for number, sequence in enumerate(sequences):
            sampling = SamplingParams(temperature=1.0, seed=number)
            self._executor.attach(sequence, (), (), sampling, constraint=constraint)
            joins = sequences[0] if number else None
            chunk = PrefillChunk(sequence, self._prompt, last=True, joins=joins)
            self._executor.run(StepPlan(sequences[:number], chunk))
        plan = StepPlan(sequences)
        self._executor.run(plan)
        found = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            self._executor.run(plan)
            found.append(time.perf_counter() - begin)
        for sequence in sequences:
            self._executor.release(sequence)
        return median(found)


def _random_8b() -> "Module":
    """Weights of that shape, drawn where they will be used."""
    import mlx.core as mx  # noqa: PLC0415 - after the BLAS
    from tests.fakes.random_models import make_model  # noqa: PLC0415

    return make_model(SHAPE_8B, dtype=mx.bfloat16)


def _measure(steps: Steps, forms: Mapping[str, Timed]) -> None:
    print("rows  form       ms a token   ratio   mask, us a token (median, most)")
    for batch in BATCHES:
        found: dict[str, list[float]] = {}
        for timed in forms.values():
            timed.seconds.clear()
        for _ in range(ROUNDS):
            found.setdefault("none", []).append(steps.seconds(batch, None))
            for name, timed in forms.items():
                found.setdefault(name, []).append(steps.seconds(batch, timed))
        for name, seconds in found.items():
            ratio = median(one / free for one, free in zip(seconds, found["none"], strict=True))
            line = f"{batch:4}  {name:10} {median(seconds) * _MS:10.2f} {ratio:7.3f}"
            if name in forms:
                taken = forms[name].seconds
                line += f"   {median(taken) * _US:8.0f} {max(taken) * _US:8.0f}"
            print(line)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=["default", "8b"], default="default")
    shape = parser.parse_args().shape
    bare = loaded()
    from tests.fakes.random_models import capabilities  # noqa: PLC0415 - after the BLAS

    from semantic.adapters.outbound.mlx.executor import MlxExecutor  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.model_loader import vocab_size  # noqa: PLC0415

    tokenizer: Tokenizer = bare.tokenizer
    model = bare.model
    if shape == "8b":
        narrow = vocab_size(model)
        model = _random_8b()
        tokenizer = WideTokenizer(tokenizer, narrow, vocab_size(model))
    size = vocab_size(model)
    print(f"vocabulary of {size} tokens")

    answers = GuidedAnswers(tokenizer, size, StructuredLog())
    compiled = partial(answers.of, reasons=False)
    begin = time.thread_time()
    records = compiled(NO_TOOLS, JsonAnswer(json.dumps(_RECORDS)))
    print(f"the vocabulary, once: {(time.thread_time() - begin) * _MS:.0f} ms")
    begin = time.thread_time()
    compiled(tools(30, 8), None)
    print(f"compiling 30 tools of 8 arguments: {(time.thread_time() - begin) * _MS:.0f} ms")
    twenty = compiled(tools(20, 8), None)
    if records is None or twenty is None:
        raise RuntimeError("nothing is held")

    prompt = tokenizer.encode("One two three four five six seven. " * CONTEXT)[:CONTEXT]
    steps = Steps(MlxExecutor(model, capabilities(model)), prompt)
    ends = tokenizer.stop_tokens
    _measure(steps, {"json": Timed(records, ends), "20 tools": Timed(twenty, ends)})


if __name__ == "__main__":
    main()
