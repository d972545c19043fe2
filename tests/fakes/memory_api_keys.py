"""API keys that last as long as the process."""

from semantic.domain.api_key import ApiKey
from semantic.domain.errors import CachePersistenceError, InvalidRequestError, KeyNotFoundError
from semantic.domain.ids import KeyName


class MemoryApiKeys:
    """Implements the port `ApiKeys`. While `damaged`, nothing can be had or changed."""

    def __init__(self, *keys: ApiKey) -> None:
        self._keys = {key.name: key for key in keys}
        self.damaged = False

    def all(self) -> tuple[ApiKey, ...]:
        if self.damaged:
            raise CachePersistenceError("the keys are damaged")
        return tuple(self._keys.values())

    def add(self, key: ApiKey) -> None:
        if key.name in {known.name for known in self.all()}:
            raise InvalidRequestError(f"there is a key named {key.name!r}", field="name")
        self._keys[key.name] = key

    def remove(self, name: KeyName) -> ApiKey:
        if name not in {known.name for known in self.all()}:
            raise KeyNotFoundError(f"there is no key named {name!r}")
        return self._keys.pop(name)
