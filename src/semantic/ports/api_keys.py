"""Where API keys are kept."""

from typing import Protocol

from semantic.domain.api_key import ApiKey
from semantic.domain.ids import KeyName


class ApiKeys(Protocol):
    """Keys by name. Several processes may use them at once; a change is durable on return."""

    def all(self) -> tuple[ApiKey, ...]:
        """All keys, in the order in which they were made.

        Raises:
            CachePersistenceError: if they cannot be had as they were written. That is not the
                same as none.
        """

    def add(self, key: ApiKey) -> None:
        """Keep another key.

        Raises:
            InvalidRequestError: if there is one of that name.
            CachePersistenceError: if it cannot be kept, or the others cannot be had.
        """

    def remove(self, name: KeyName) -> ApiKey:
        """Forget a key; what it was.

        Raises:
            KeyNotFoundError: if there is none of that name.
            CachePersistenceError: if that cannot be kept, or the keys cannot be had.
        """
