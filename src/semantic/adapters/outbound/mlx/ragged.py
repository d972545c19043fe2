"""Which model types may share a batch.

mlx-lm's ragged batches are wrong for several architectures, some of them silently (engine
facts, section 6). A type is listed here once a test has shown that its batches agree with
running alone; every other model runs one sequence at a time.
"""

from typing import Final

PROVEN_MODEL_TYPES: Final = frozenset({"llama"})


def max_batch(model_type: str, configured: int) -> int:
    """Sequences of this model type that may run at once."""
    return configured if model_type in PROVEN_MODEL_TYPES else 1
