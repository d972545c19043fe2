"""How the next token is chosen, and when to stop asking for one."""

from dataclasses import dataclass

from semantic.domain.errors import InvalidRequestError

MAX_TEMPERATURE = 2.0
MAX_STOP_STRINGS = 16


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Validated on construction.

    `temperature` 0 means greedy. `max_tokens` of None means as many as the server allows.

    Raises:
        InvalidRequestError: naming the field whose value is out of range.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidRequestError(
                f"max_tokens must be at least 1, not {self.max_tokens}", field="max_tokens"
            )
        # Written so that NaN fails as well.
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise InvalidRequestError(
                f"temperature must be between 0 and {MAX_TEMPERATURE}, not {self.temperature}",
                field="temperature",
            )
        if not 0 < self.top_p <= 1:
            raise InvalidRequestError(
                f"top_p must be above 0 and at most 1, not {self.top_p}", field="top_p"
            )
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise InvalidRequestError("seed must be between 0 and 2**64 - 1", field="seed")
        self._check_stop()

    def _check_stop(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequestError(
                f"at most {MAX_STOP_STRINGS} stop strings are allowed, not {len(self.stop)}",
                field="stop",
            )
        if any(not text for text in self.stop):
            raise InvalidRequestError("a stop string must not be empty", field="stop")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0
