"""A store's secret: `<root>/secret.key`, 32 random bytes for the owner alone.

Every key and every name in the store follows from it, so without it nothing there is ever found
again. It is made when a store is first opened, and never again while there is anything to lose.
"""

import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from semantic.adapters.outbound.storage.durable_file import rename, sync_directory, write_file
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.store_secret import SECRET_BYTES, StoreSecret

FILE = "secret.key"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_WITHOUT_SECRET = (b'"format":"semantic-block/2"', b'"format":"semantic-agent/1"')
"""What the files of a store say that was made before there were secrets."""

_HEAD_BYTES = 1024
"""In which they say it."""


def opened(root: Path) -> StoreSecret:
    """The secret of the store that `StoreLock` holds; made, durably, if the store is new.

    One from before there were secrets becomes new: what is in it is set aside, being of a format
    that nobody reads.

    Raises:
        CachePersistenceError: if it cannot be read or made, is not what it should be, or is
            missing beside what was kept under it.
    """
    path = root / FILE
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            _refuse_if_lost(root)
            _set_aside_former(root)
            _make(path)
        return _read(path)
    except OSError as error:
        raise CachePersistenceError(f"{path} cannot be used: {error}") from error


def seen(root: Path) -> StoreSecret:
    """The secret of a store to look at; nothing is made. Raises as `opened` does.

    A store that holds nothing may have none yet: then it is one that nothing was kept under.
    """
    path = root / FILE
    try:
        if not os.path.lexists(path):
            _refuse_if_lost(root)
            return StoreSecret(secrets.token_bytes(SECRET_BYTES))
        return _read(path)
    except OSError as error:
        raise CachePersistenceError(f"{path} cannot be used: {error}") from error


def foreign(root: Path) -> CachePersistenceError:
    """What to say if the secret is not the one that the store's blocks were kept under."""
    return CachePersistenceError(
        f"{root / FILE} is another store's: put the one of a copy of this store in its place. "
        f"{_if_lost(root)}"
    )


def _read(path: Path) -> StoreSecret:
    try:
        with RegularFile(path) as file:
            value = file.read(file.size, 0) if file.size == SECRET_BYTES else b""
            mode = path.lstat().st_mode
    except CacheCorruptionError as error:
        raise CachePersistenceError(
            f"{path} is not a file: put the one of a copy of this store in its place"
        ) from error
    if len(value) != SECRET_BYTES:
        raise CachePersistenceError(
            f"{path} does not have {SECRET_BYTES} bytes: put the one of a copy of this store in "
            f"its place. {_if_lost(path.parent)}"
        )
    if mode & _OTHERS:
        raise CachePersistenceError(
            f"{path} is open to others: 'chmod 600 {path}' closes it. Who has read it can tell "
            "from names in the store which prompts were asked"
        )
    return StoreSecret(value)


def _make(path: Path) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_file(fresh, (secrets.token_bytes(SECRET_BYTES),))
    # Its name gets durable with those of the folders beside it, before anything is kept there.
    rename(fresh, path)


def _refuse_if_lost(root: Path) -> None:
    """Raise CachePersistenceError if anything was kept under a secret that is not there."""
    for path in _kept(root):
        if not _is_former(path):
            raise CachePersistenceError(
                f"{root / FILE} is missing, and without it nothing in {root} can be found: put "
                f"the one of a copy of this store in its place. {_if_lost(root)}"
            )


def _if_lost(root: Path) -> str:
    return (
        "If it is lost for good, so is what agents remember: "
        f"remove blk, agents, index.db and {FILE} in {root}, or choose another folder"
    )


def _kept(root: Path) -> Iterator[Path]:
    """Files of blocks and agents. Raises OSError where it cannot be told if there are any."""
    for folder in (path for path in (root / "blk", root / "agents") if os.path.lexists(path)):
        for place, _, names in os.walk(folder, onerror=_raised):
            yield from (Path(place, name) for name in names if name.endswith((".st", ".json")))


def _raised(error: OSError) -> None:
    raise error


def _is_former(path: Path) -> bool:
    """Whether a file was written before there were secrets."""
    try:
        with RegularFile(path) as file:
            head = file.read(min(file.size, _HEAD_BYTES), 0)
    except CacheCorruptionError:
        return False
    return any(mark in head for mark in _WITHOUT_SECRET)


def _set_aside_former(root: Path) -> None:
    """Move what was kept before there were secrets to the quarantine, as a whole."""
    for folder in (root / "blk", root / "agents"):
        if folder.is_dir() and any(folder.iterdir()):
            quarantine = root / "quarantine"
            quarantine.mkdir(mode=0o700, exist_ok=True)
            names = (quarantine / f"{folder.name}.{number}" for number in itertools.count())
            rename(folder, next(name for name in names if not os.path.lexists(name)))
            sync_directory(quarantine)
            sync_directory(root)
