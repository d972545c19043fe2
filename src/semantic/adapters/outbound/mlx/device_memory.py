"""How much memory there is for KV."""

import os
from pathlib import Path
from typing import Final

import mlx.core as mx

_SHARE: Final = 0.5
"""Of what is free once the model is there: activations, the store's queue and others need some."""

_CGROUP: Final = Path("/sys/fs/cgroup")


def kv_budget() -> int:
    """Bytes that KV may take on this device, with the weights in place."""
    return max(0, int((_whole() - mx.get_active_memory()) * _SHARE))


def _whole() -> int:
    """The device's memory: of a CPU, and where memory is unified, the machine's."""
    info = mx.device_info()
    for name in ("max_recommended_working_set_size", "memory_size", "total_memory"):
        found = info.get(name)
        if isinstance(found, int) and found > 0:
            return found
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _allowed())


def _allowed() -> int:
    """What a container may use; unlimited where nothing says so."""
    try:
        text = (_CGROUP / "memory.max").read_text().strip()
    except OSError:
        return 1 << 62
    return int(text) if text.isdigit() else 1 << 62
