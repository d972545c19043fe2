"""A model from the Hugging Face hub.

Owns what is fetched and how a failure is told. Where the hub is, where its files are kept and
whether it may be asked are the hub's own settings (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE,
HF_TOKEN). Every request has a time limit, so that a missing network is an error and not a wait.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from huggingface_hub import constants, get_session, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported lazily, documented
    disable_progress_bars,
    validate_repo_id,
)

from semantic.domain.errors import ModelNotFoundError
from semantic.ports.telemetry import Telemetry

_WANTED = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "model*.safetensors"]
_UNWANTED = ["*/*"]
"""Folders inside a model hold other formats of the same weights."""
_REPORT_EVERY_S = 5.0
_SILENCE_LIMIT_S = 20.0


class _Request(Protocol):
    """What is used here of a request of httpx, under whichever name the hub's client has it."""

    extensions: dict[str, dict[str, float | None]]


def may_have(model_id: str) -> bool:
    """Whether a model on the hub can have that name."""
    try:
        validate_repo_id(model_id)
    except HFValidationError:
        return False
    return True


def fetch(model_id: str, telemetry: Telemetry, tried: tuple[str, ...]) -> Path:
    """The folder with the hub's newest files, or the kept ones if the hub cannot be reached.

    Args:
        model_id: a name that the hub may have.
        telemetry: told how far a download is, where there is no terminal to show it.
        tried: the places where the model was looked for before, for the error.

    Raises:
        ModelNotFoundError: if neither the hub nor its local cache gives the model.
    """
    kept = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model_id, repo_type="model")
    _limit_waiting()
    try:
        with _reported(model_id, kept, telemetry):
            return Path(
                snapshot_download(model_id, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
            )
    except Exception as error:  # it lets its HTTP library's errors through, and changed that once
        reason = f"{type(error).__name__}: {_first_line(error)}"
        places = (f"the hub's cache {kept}", f"{_hub()} ({reason})")
        raise ModelNotFoundError(model_id, tried=(*tried, *places)) from error


def _limit_waiting() -> None:
    """Give a limit to every request that the hub's client would let wait for ever."""
    hooks = get_session().event_hooks
    if _give_limit not in hooks["request"]:
        get_session().event_hooks = hooks | {"request": [*hooks["request"], _give_limit]}


def _give_limit(request: _Request) -> None:
    limits = request.extensions["timeout"]
    request.extensions["timeout"] = {k: v or _SILENCE_LIMIT_S for k, v in limits.items()}


def _hub() -> str:
    asked = constants.ENDPOINT
    return f"{asked}, which HF_HUB_OFFLINE forbids to ask" if constants.HF_HUB_OFFLINE else asked


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"


@contextlib.contextmanager
def _reported(model_id: str, kept: Path, telemetry: Telemetry) -> Iterator[None]:
    """Tell how many bytes have come, every few seconds; at a terminal the hub draws a bar."""
    if sys.stderr.isatty():
        yield
        return
    disable_progress_bars()
    done = threading.Event()
    before = _bytes_below(kept)

    def report() -> None:
        while not done.wait(_REPORT_EVERY_S):
            received = _bytes_below(kept) - before
            telemetry.info("model_download_progress", model=model_id, received_bytes=received)

    reporter = threading.Thread(target=report, name="download-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _bytes_below(kept: Path) -> int:
    total = 0
    for path in kept.glob("blobs/*"):
        with contextlib.suppress(OSError):  # renamed when complete
            total += path.stat().st_size
    return total
