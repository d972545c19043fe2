"""The floor: mlx-lm's own `BatchGenerator`, nothing around it.

On the same model and BLAS. As mlx-lm comes, or with `--server-chunks` in prefill chunks of the
server's size, which on a CPU is faster.

Reads one JSON list of chat messages from standard input, prints one JSON line:
`{"ttft_s": ..., "prompt_tokens": ...}`.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from semantic.adapters.config.sources import load_settings
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.ids import TokenId

if TYPE_CHECKING:
    from mlx.nn.layers.base import Module

    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer


class Bare(NamedTuple):
    """The server's model without the server. `chunk` is its prefill step while nobody decodes."""

    model: "Module"
    tokenizer: "MlxTokenizer"
    chunk: int

    def encoded(self, messages: Sequence[ChatMessage]) -> tuple[TokenId, ...]:
        """A conversation as the server gives it to the engine."""
        return self.tokenizer.encode(self.tokenizer.render(Conversation(tuple(messages))))


def loaded() -> Bare:
    """The model as the settings name it, on the server's BLAS with as many threads."""
    settings = load_settings()
    cache_dir, engine = settings.model.cache_path, settings.engine
    blas.preload(cache_dir, engine.blas_threads)

    # Importing MLX binds its BLAS, so it comes after the choice.
    from semantic.adapters.outbound.mlx.model_loader import backend, load_weights  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.model_source import resolve  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer  # noqa: PLC0415

    source = resolve(settings.model.id, cache_dir, StructuredLog())
    model, _ = load_weights(source.path)
    chunk = engine.chunk_tokens_cpu if backend() == "cpu" else engine.chunk_tokens_gpu
    return Bare(model, MlxTokenizer.load(source.path), chunk)


def main() -> None:
    """Measure one prompt."""
    bare = loaded()
    from mlx_lm.generate import BatchGenerator  # noqa: PLC0415 - after the BLAS

    messages = [ChatMessage(Role(m["role"]), m["content"]) for m in json.load(sys.stdin)]

    begin = time.perf_counter()
    prompt = bare.encoded(messages)
    generator = BatchGenerator(bare.model)
    if "--server-chunks" in sys.argv:
        generator = BatchGenerator(bare.model, prefill_step_size=bare.chunk)
    generator.insert([list(prompt)], [1])
    generator.next_generated()  # type: ignore[no-untyped-call] # mlx-lm is untyped
    ttft_s = time.perf_counter() - begin
    generator.close()  # type: ignore[no-untyped-call]
    print(json.dumps({"ttft_s": ttft_s, "prompt_tokens": len(prompt)}))


if __name__ == "__main__":
    main()
