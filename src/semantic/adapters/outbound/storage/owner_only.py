"""Closing a store to everybody but its owner, whoever made its folders and how."""

import os
import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_ENTRIES = (
    *("blk", "agents", "responses", "tmp", "quarantine"),
    *("index.db", "index.db-wal", "index.db-shm", "store.lock", "server.json"),
)
"""What a store has at its top. An open secret is refused: whoever has read it can use it."""


def close_to_others(root: Path) -> int:
    """Take from others what rights they have to a store and what is at its top; how many had any.

    What is not ours is left as it is, and so is what the file system cannot close.
    """
    found = (_closed(path) for path in (root.resolve(), *(root / name for name in _ENTRIES)))
    return sum(found)


def _closed(path: Path) -> bool:
    """Whether a file or folder was open to others, and is no more. Links are not followed."""
    with suppress(OSError):
        found = path.lstat()
        ours = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
        if ours and found.st_mode & _OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
            return True
    return False
