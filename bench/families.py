"""Model families, restored and uninterrupted, compared token for token.

For each family, element type and window: sequences are prefilled to a position and go on, once
uninterrupted, once restored there from memory, and once from the disk by a model loaded anew; each
alone and all four in a ragged batch. The shape of the work is the same in all three: chunks, and
who decodes beside whom. Models are tiny and random; what is tried is the arithmetic of caches.

Prints the table, and writes it into docs/model-families.md with `--write`.
"""

import argparse
import platform
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
from tests.fakes.blocks import SECRET
from tests.fakes.model_families import FAMILIES, runnable_in_bfloat16
from tests.fakes.random_models import VOCABULARY, capabilities, make_model

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.cache_spec import BLOCK_SIZE, ModelCacheSpec
from semantic.domain.ids import PUBLIC, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock, PartHandle

DOCUMENT = Path(__file__).parent.parent / "docs" / "model-families.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

NAMES = {
    "llama": "Llama 3.1",
    "qwen2": "Qwen 2.5",
    "qwen3": "Qwen 3",
    "gemma3_text": "Gemma 3, text",
    "gemma3": "Gemma 3, multimodal",
    "gpt_oss": "GPT-OSS",
    "deepseek_v2": "DeepSeek V2",
    "deepseek_v3": "DeepSeek V3",
    "qwen3_5": "Qwen 3.5",
    "qwen3_next": "Qwen3-Next",
}
WINDOWS = (32, 300)
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16}
COLUMNS = (
    "family",
    "type",
    "window",
    "bytes equal",
    "memory, alone",
    "disk, alone",
    "memory, batch of 4",
    "disk, batch of 4",
)
GENERATED = 64
GREEDY = SamplingParams(temperature=0)

Tokens = tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    family: str
    dtype: str
    window: int | None

    def config(self) -> Mapping[str, Any]:
        """The tiny model's configuration."""
        config = FAMILIES[self.family]
        if self.window is None:
            return config
        if "text_config" in config:
            text = {**config["text_config"], "sliding_window": self.window}
            return {**config, "text_config": text}
        return {**config, "sliding_window": self.window}

    def executor(self) -> MlxExecutor:
        """The model, loaded anew: the same weights each time."""
        model = make_model(self.config(), dtype=DTYPES[self.dtype])
        if self.dtype == "bfloat16":
            model = runnable_in_bfloat16(model)
        return MlxExecutor(model, capabilities(model))

    def positions(self) -> tuple[int, ...]:
        """Before, at and after a block boundary and the window, and far behind both."""
        edges = [BLOCK_SIZE, 2 * BLOCK_SIZE, *([self.window] if self.window else [])]
        return tuple(sorted({edge + step for edge in edges for step in (-1, 0, 1)} | {700}))


def cases() -> tuple[Case, ...]:
    """All lines of the table."""
    return tuple(
        Case(family, dtype, window)
        for family in NAMES
        for dtype in DTYPES
        for window in (WINDOWS if _slides(family) else (None,))
    )


def _slides(family: str) -> bool:
    config = FAMILIES[family]
    return "sliding_window" in {**config, **config.get("text_config", {})}


@dataclass(slots=True)
class Conversation:
    """A prompt that is interrupted at `position`, and the parts that were kept until there."""

    prompt: Tokens
    position: int
    parts: dict[PartId, tuple[BlockHeader, PartHandle]] = field(default_factory=dict)


def make_conversation(position: int, seed: int) -> Conversation:
    """A random prompt that goes on for a while after `position`."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible prompts, no secrets
    length = position + numbers.randrange(2, 60)
    return Conversation(tuple(numbers.choices(range(VOCABULARY), k=length)), position)


class Bench:
    """Drives one executor: everyone to his position first, then one after the other on."""

    def __init__(self, executor: MlxExecutor) -> None:
        spec = executor.capabilities.spec
        if spec is None:
            raise ValueError("this model's cache cannot be kept")
        self._executor = executor
        self._spec: ModelCacheSpec = spec
        self._decoding: list[SequenceId] = []
        self._answers: dict[SequenceId, list[TokenId]] = {}

    def uninterrupted(self, conversations: Sequence[Conversation]) -> list[Tokens]:
        """Answers without any restore; the conversations' parts are kept on the way."""
        for number, conversation in enumerate(conversations):
            self._executor.attach(SequenceId(number), (), (), GREEDY)
            boundaries = range(0, conversation.position, BLOCK_SIZE)
            for start, end in pairwise((*boundaries, conversation.position)):
                self._prefill(SequenceId(number), conversation.prompt, start, end)
                self._keep(SequenceId(number), conversation, start, end)
        return self._go_on(conversations)

    def restored(self, conversations: Sequence[Conversation]) -> list[Tokens]:
        """Answers that go on from the conversations' parts."""
        for number, conversation in enumerate(conversations):
            self._executor.attach(
                SequenceId(number),
                conversation.prompt[: conversation.position],
                list(self._blocks(conversation)),
                GREEDY,
            )
        return self._go_on(conversations)

    def imported(self, conversation: Conversation, store: BlockFiles) -> tuple[Conversation, bool]:
        """The conversation with its parts read from `store`; whether their bytes are the same."""
        returned = Conversation(conversation.prompt, conversation.position)
        same = True
        for part, (header, handle) in conversation.parts.items():
            found = store.get(header.namespace, part)
            if found is None:
                raise ValueError(f"{part} is not in the store")
            read = self._executor.import_part(part.kind, found.tensors, len(header.tokens))
            same &= self._executor.export(read) == self._executor.export(handle)
            returned.parts[part] = (header, read)
        return returned, same

    def written(self, conversation: Conversation, store: BlockFiles) -> None:
        """Put all parts of a conversation into `store`."""
        for header, handle in conversation.parts.values():
            store.put(StoredPart(header, self._executor.export(handle)))

    def _go_on(self, conversations: Sequence[Conversation]) -> list[Tokens]:
        for number, conversation in enumerate(conversations):
            sequence, length = SequenceId(number), len(conversation.prompt)
            cuts = [
                cut
                for cut in range(BLOCK_SIZE, length - 1, BLOCK_SIZE)
                if cut > conversation.position
            ]
            for start, end in pairwise((conversation.position, *cuts, length - 1, length)):
                if start < end:
                    self._prefill(sequence, conversation.prompt, start, end)
            self._decoding.append(sequence)
            self._answers[sequence] = []
        for _ in range(GENERATED):
            self._step(None)
        answers = [tuple(self._answers[sequence]) for sequence in self._decoding]
        for sequence in self._decoding:
            self._executor.release(sequence)
        self._decoding, self._answers = [], {}
        return answers

    def _prefill(self, sequence: SequenceId, prompt: Tokens, start: int, end: int) -> None:
        last = end == len(prompt)
        joins = self._decoding[0] if last and self._decoding else None
        self._step(PrefillChunk(sequence, prompt[start:end], last, joins))

    def _step(self, chunk: PrefillChunk | None) -> None:
        for sampled in self._executor.run(StepPlan(tuple(self._decoding), chunk)).sampled:
            self._answers[sampled.sequence].append(sampled.token)

    def _keep(self, sequence: SequenceId, conversation: Conversation, start: int, end: int) -> None:
        namespace = self._executor.capabilities.namespace
        parent = root_key(namespace, SECRET)
        for before in range(0, start, BLOCK_SIZE):
            parent = block_key(parent, conversation.prompt[before : before + BLOCK_SIZE])
        tokens = conversation.prompt[start:end]
        begins = PartKind.FULL if end - start == BLOCK_SIZE else PartKind.TAIL
        for kind in (begins, *self._spec.resume_rule.extras):
            key = block_key(parent, tokens)
            header = BlockHeader(key, parent, namespace, kind, start, tokens, PUBLIC)
            handle = self._executor.seal(sequence, start, end, kind)
            if handle is None:
                raise ValueError(f"{kind} of {start}..{end} was not there to be kept")
            conversation.parts[header.id] = (header, handle)

    def _blocks(self, conversation: Conversation) -> Iterator[AttachedBlock]:
        for header, full in conversation.parts.values():
            if header.kind.begins:
                needed = self._spec.resume_rule.needed(header.end, conversation.position)
                extras = {
                    kind.value: conversation.parts[PartId(header.key, kind)][1] for kind in needed
                }
                yield AttachedBlock(full, len(header.tokens), **extras)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of the positions came out right."""

    positions: tuple[int, ...]
    bytes_equal: bool
    hot_alone: int
    disk_alone: int
    hot_batch: int
    disk_batch: int

    @property
    def right(self) -> bool:
        """Whether nothing differed."""
        counts = (self.hot_alone, self.disk_alone, self.hot_batch, self.disk_batch)
        return self.bytes_equal and set(counts) == {len(self.positions)}


def measure(case: Case, positions: Sequence[int]) -> Outcome:
    """Compare all ways of restoring at `positions`, in batches of four."""
    before, after = Bench(case.executor()), Bench(case.executor())
    conversations = [make_conversation(position, seed) for seed, position in enumerate(positions)]
    alone = [before.uninterrupted([conversation])[0] for conversation in conversations]
    with tempfile.TemporaryDirectory() as folder:
        store = BlockFiles(Path(folder), StructuredLog())
        for conversation in conversations:
            before.written(conversation, store)
        reopened = BlockFiles(Path(folder), StructuredLog())
        read = [after.imported(conversation, reopened) for conversation in conversations]
    from_disk = [conversation for conversation, _ in read]
    hot_alone = [before.restored([conversation])[0] for conversation in conversations]
    disk_alone = [after.restored([conversation])[0] for conversation in from_disk]
    groups = [slice(start, start + 4) for start in range(0, len(conversations), 4)]
    batch = [answer for four in groups for answer in before.uninterrupted(conversations[four])]
    hot_batch = [answer for four in groups for answer in before.restored(conversations[four])]
    disk_batch = [answer for four in groups for answer in after.restored(from_disk[four])]
    return Outcome(
        positions=tuple(positions),
        bytes_equal=all(same for _, same in read),
        hot_alone=_equal(hot_alone, alone),
        disk_alone=_equal(disk_alone, alone),
        hot_batch=_equal(hot_batch, batch),
        disk_batch=_equal(disk_batch, batch),
    )


def _equal(answers: Sequence[Tokens], expected: Sequence[Tokens]) -> int:
    return sum(found == right for found, right in zip(answers, expected, strict=True))


def row(case: Case, outcome: Outcome) -> str:
    """A line of the table."""
    count = len(outcome.positions)
    cells = [
        NAMES[case.family],
        case.dtype,
        str(case.window or "-"),
        "yes" if outcome.bytes_equal else "NO",
        *(
            f"{right} of {count}"
            for right in (
                outcome.hot_alone,
                outcome.disk_alone,
                outcome.hot_batch,
                outcome.disk_batch,
            )
        ),
    ]
    return _line(*cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measure every case; 1 if one of them is not right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    lines = [
        f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}, {platform.system()}",
        f"{platform.machine()}, {mx.default_device()}; {GENERATED} greedy tokens at each position.",
        "",
        _line(*COLUMNS),
        "|---" * len(COLUMNS) + "|",
    ]
    print("\n".join(lines))
    right = True
    for case in cases():
        outcome = measure(case, case.positions())
        right &= outcome.right
        lines.append(row(case, outcome))
        print(lines[-1], flush=True)
    if arguments.write:
        text = DOCUMENT.read_text()
        head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
        DOCUMENT.write_text("\n".join([head + BEGIN, *lines, tail]))
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
