"""The floor: mlx-lm's own `BatchGenerator`, nothing around it.

On the same model and BLAS. As mlx-lm comes, or with `--server-chunks` in prefill chunks of the
server's size, which on a CPU is faster.

Reads one JSON list of chat messages from standard input, prints one JSON line:
`{"ttft_s": ..., "prompt_tokens": ...}`.
"""

import json
import sys
import time

from semantic.adapters.config.sources import load_settings
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog


def main() -> None:
    """Measure one prompt."""
    settings = load_settings()
    cache_dir = settings.model.cache_path
    blas.preload(cache_dir, settings.engine.blas_threads)

    from mlx_lm.generate import BatchGenerator  # noqa: PLC0415 - after the BLAS

    from semantic.adapters.outbound.mlx.model_loader import backend, load_weights  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.model_source import resolve  # noqa: PLC0415
    from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer  # noqa: PLC0415
    from semantic.domain.chat import ChatMessage, Role  # noqa: PLC0415

    source = resolve(settings.model.id, cache_dir, StructuredLog())
    model, _ = load_weights(source.path)
    tokenizer = MlxTokenizer.load(source.path)
    messages = [ChatMessage(Role(m["role"]), m["content"]) for m in json.load(sys.stdin)]

    begin = time.perf_counter()
    prompt = tokenizer.encode(tokenizer.render(messages))
    generator = BatchGenerator(model)
    if "--server-chunks" in sys.argv:
        engine, on_cpu = settings.engine, backend() == "cpu"
        chunk = engine.chunk_tokens_cpu if on_cpu else engine.chunk_tokens_gpu
        generator = BatchGenerator(model, prefill_step_size=chunk)
    generator.insert([list(prompt)], [1])
    generator.next_generated()  # type: ignore[no-untyped-call] # mlx-lm is untyped
    ttft_s = time.perf_counter() - begin
    generator.close()  # type: ignore[no-untyped-call]
    print(json.dumps({"ttft_s": ttft_s, "prompt_tokens": len(prompt)}))


if __name__ == "__main__":
    main()
