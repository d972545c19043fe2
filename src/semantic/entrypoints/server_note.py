"""A running server's address, left in its store: who may read the store may administer it.

The token is a new one at every start, so a note that a killed server left opens nothing.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard

from semantic.domain.errors import CachePersistenceError


@dataclass(frozen=True, slots=True)
class ServerNote:
    """Where a server is (`http://host:port`), and what opens its administration."""

    url: str
    token: str


def write(root: Path, note: ServerNote) -> None:
    """Leave a note in the store `root`, for the owner alone.

    Raises:
        CachePersistenceError: if it cannot be written; there is none then, an older one neither.
    """
    fresh = _place(root).with_suffix(f".{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
        fresh.replace(_place(root))
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        remove(root)
        raise CachePersistenceError(f"{_place(root)} cannot be written: {error}") from error


def read(root: Path) -> ServerNote | None:
    """The note in `root`, of a server that may be gone; None if there is none to be understood."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(_place(root).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            url, token = found.get("url"), found.get("token")
            if _is_plain(url) and _is_plain(token):
                return ServerNote(url, token)
    return None


def remove(root: Path) -> None:
    """Take the note away. What cannot be removed is stale, and harms nobody."""
    with suppress(OSError):
        _place(root).unlink()


def _is_plain(found: object) -> TypeGuard[str]:
    """Whether it is text that can stand in a header, as what a server leaves can."""
    return isinstance(found, str) and found.isascii() and found.isprintable()


def _place(root: Path) -> Path:
    return root / "server.json"
