"""What makes one model's KV another's or not: digests of content, never names.

Hashing a large model's weights takes a while, so digests are remembered by path, size and
times in the cache folder. The time of change counts as well as that of modification: tools set
the latter back, nobody the former.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.mlx.cache_files import write_file

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelDigests:
    """Hex SHA-256 of a model folder's parts."""

    weights: str
    config: str
    tokenizer: str


def digest_model(folder: Path, cache_dir: Path) -> ModelDigests:
    """Digest a model folder.

    Raises:
        OSError: if its files cannot be read.
    """
    known = _Remembered(cache_dir / "digests.json")
    weights = sorted(folder.glob("*.safetensors"))
    tokenizer = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    digests = ModelDigests(
        weights=_combine(known, weights),
        config=_combine(known, [folder / "config.json"]),
        tokenizer=_combine(known, tokenizer),
    )
    known.save()
    return digests


def _combine(known: "_Remembered", files: list[Path]) -> str:
    combined = hashlib.sha256()
    for file in files:
        combined.update(f"{file.name}\0{known.digest(file)}\0".encode())
    return combined.hexdigest()


class _Remembered:
    """Digests of files that have not changed since they were last hashed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            entries = json.loads(path.read_bytes())
        except (OSError, ValueError):
            entries = {}
        self._entries: dict[str, str] = entries if isinstance(entries, dict) else {}

    def digest(self, file: Path) -> str:
        real = file.resolve()
        stat = real.stat()
        key = f"{real}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
        found = self._entries.get(key)
        if not isinstance(found, str):
            found = _sha256(real)
            self._entries[key] = found
            self._changed = True
        return found

    def save(self) -> None:
        if not self._changed:
            return
        # Not remembered means hashed again, no more.
        with contextlib.suppress(OSError):
            write_file(self._path, json.dumps(self._entries, indent=1).encode())


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
