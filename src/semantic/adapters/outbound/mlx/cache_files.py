"""Files and folders in the user's cache folder, of which no reader ever sees a half.

Owns how they come to be: written beside their place, flushed, then renamed into it, while a
lock keeps a second process from doing the same work. Knows nothing of what they hold.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every other process and thread.

    Raises:
        OSError: if the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_file(path: Path, data: bytes) -> None:
    """Give `path` the content `data`, in one step.

    Raises:
        OSError: if it cannot be written; an earlier content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `target` with what `fill` writes into the folder that it is given.

    Nothing happens if `target` is there. Of two processes one fills, the other waits for it.
    What a killed process left behind is removed.

    Raises:
        OSError: if it cannot be written.
        Exception: whatever `fill` raises; there is no `target` then.
    """
    if target.is_dir():
        return
    with locked(target.with_name(f".{target.name}.lock")):
        if target.is_dir():
            return
        for stale in target.parent.glob(f".{target.name}.*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
        try:
            fill(folder)
            _flush(folder)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
