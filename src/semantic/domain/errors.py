"""The errors that `semantic` raises on purpose.

    SemanticError
    ├── InvalidRequestError          the caller's input; names the field
    │   ├── ContextLengthError       prompt and answer exceed the model's context
    │   └── KVBudgetError            prompt and answer exceed all memory that there is for KV
    ├── AgentNotFoundError           no memory under that name
    ├── AgentBusyError               its memory cannot be changed while it is being answered
    ├── KeyNotFoundError             no API key of that name
    ├── ModelNotFoundError           no such model; says what was tried
    ├── ModelLoadError               the model was found and cannot be used
    ├── ModelSwapError               a model could not be replaced by another
    ├── PoolExhaustedError           no room for more KV, or for more requests
    ├── CachePersistenceError        the store cannot be read or written
    │   └── StoreLockedError         another process owns the store
    ├── CacheCorruptionError         stored bytes are not the bytes that were written
    ├── IncompatibleCacheError       KV of another namespace, layout or shape
    └── EngineError                  the engine failed while it worked

Adapters translate library errors into these with `raise ... from`. Which HTTP status each
becomes is one table in the inbound adapter.
"""


class SemanticError(Exception):
    """Root of every error that the project raises on purpose."""


class InvalidRequestError(SemanticError):
    """The request cannot be served as written; `field` names the part to change."""

    def __init__(self, message: str, *, field: str | None) -> None:
        super().__init__(message)
        self.field = field


class ContextLengthError(InvalidRequestError):
    """Prompt and requested answer do not fit into the model's context."""


class KVBudgetError(InvalidRequestError):
    """Prompt and requested answer do not fit into the KV budget, however long they wait."""


class AgentNotFoundError(SemanticError):
    """No agent of that name has a memory here."""


class AgentBusyError(SemanticError):
    """The agent is being answered, which its memory must outlive."""


class KeyNotFoundError(SemanticError):
    """No API key has that name."""


class ModelNotFoundError(SemanticError):
    """No model answers to that name. `tried` lists where it was looked for."""

    def __init__(self, model: str, *, tried: tuple[str, ...]) -> None:
        looked = "".join(f"\n  - {place}" for place in tried)
        super().__init__(f"model {model!r} was not found; tried:{looked}")
        self.model = model
        self.tried = tried


class ModelLoadError(SemanticError):
    """The model's files were found, and cannot be used as they are."""


class ModelSwapError(SemanticError):
    """A loaded model could not be replaced by another."""


class PoolExhaustedError(SemanticError):
    """There is no room for more work; raised before any of it is done.

    `retry_after_s` is when there should be; None if nobody knows.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CachePersistenceError(SemanticError):
    """The store could not be read or written."""


class StoreLockedError(CachePersistenceError):
    """Another process owns this store."""


class CacheCorruptionError(SemanticError):
    """Stored bytes differ from the bytes that were written."""


class IncompatibleCacheError(SemanticError):
    """Stored KV belongs to another namespace, layout or shape."""


class EngineError(SemanticError):
    """The engine failed while it worked. `suspects`: sequences in what failed, if that is known."""

    def __init__(self, message: str, *, suspects: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.suspects = suspects
