"""Typed access to the metadata of a GGUF file, as `mx.load` returns it."""

from collections.abc import Mapping
from typing import TypeVar, cast

import mlx.core as mx

from semantic.domain.errors import ModelLoadError

Value = str | mx.array | list[str] | list[mx.array]
_T = TypeVar("_T")


class GgufMetadata:
    """Looks up metadata by key. Never changed after it is made."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def text(self, key: str) -> str | None:
        """A string."""
        return self._typed(key, str)

    def integer(self, key: str) -> int | None:
        """A whole number."""
        number = self.number(key)
        return None if number is None else int(number)

    def number(self, key: str) -> float | None:
        """A number."""
        array = self._typed(key, mx.array)
        return None if array is None else cast(float, array.item())

    def integers(self, key: str) -> list[int]:
        """An array of whole numbers; empty if there is none."""
        array = self._typed(key, mx.array)
        return [] if array is None else cast(list[int], array.tolist())

    def texts(self, key: str) -> list[str]:
        """An array of strings; empty if there is none."""
        return [value for value in self._typed(key, list) or [] if isinstance(value, str)]

    def required(self, key: str) -> int:
        """A whole number that must be there.

        Raises:
            ModelLoadError: if it is not.
        """
        value = self.integer(key)
        if value is None:
            raise ModelLoadError(f"the GGUF file has no {key}")
        return value

    def _typed(self, key: str, kind: type[_T]) -> _T | None:
        value = self._values.get(key)
        if value is None or isinstance(value, kind):
            return value
        raise ModelLoadError(f"{key} in the GGUF file is a {type(value).__name__}")
