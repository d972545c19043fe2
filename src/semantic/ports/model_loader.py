"""From a model's name to something that runs."""

from dataclasses import dataclass
from typing import Protocol

from semantic.ports.model_executor import ModelExecutor
from semantic.ports.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. `model_id` is the name it is served under."""

    model_id: str
    created: int
    """Seconds since the epoch; when the model's files were made."""
    executor: ModelExecutor
    tokenizer: Tokenizer


class ModelLoader(Protocol):
    """Loads the model that the configuration names."""

    def load(self) -> LoadedModel:
        """Find, read and check the model. Called from the thread that will own the executor.

        Raises:
            ModelNotFoundError: naming what was tried.
            ModelLoadError: if its files cannot be used.
        """
