"""How the next token is chosen, and when to stop asking for one.

What is done to a token's logit, in this order (vLLM's for the logits, Hugging Face's for what may
be drawn at all):

    bias ─> repetition ─> frequency, presence ─> [logprobs]
         ─> temperature ─> top_k ─> top_p ─> min_p ─> draw

Penalties look at the whole history, the prompt and the answer so far. Logprobs tell of all tokens,
also of those that could not be drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId

MAX_TEMPERATURE: Final = 2.0
MAX_STOP_STRINGS: Final = 16
MAX_PENALTY: Final = 2.0
"""Of frequency and presence, either way, as in OpenAI's API; so are the next two."""
MAX_BIAS: Final = 100.0
MAX_LOGPROBS: Final = 20
SEED_BITS: Final = 64
MAX_REPETITION_PENALTY: Final = 100.0
"""Far beyond all use; what divides a logit must leave it finite in half precision."""

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, MAX_TEMPERATURE),
    "min_p": (0, 1),
    "presence_penalty": (-MAX_PENALTY, MAX_PENALTY),
    "frequency_penalty": (-MAX_PENALTY, MAX_PENALTY),
    "repetition_penalty": (1 / MAX_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    "seed": (0, 2**SEED_BITS - 1),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
}
"""Bounds, both inclusive. None is in any of them."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Validated on construction.

    `temperature` 0 means greedy. `max_tokens` of None means as many as the server allows, `top_k`
    of None all tokens, `logprobs` of None that nobody asks for them; else so many alternatives
    are told with each token; `prompt_logprobs` is the same of the prompt's tokens, which are all
    computed then. `max_tokens` 0 asks for no answer. `logit_bias` pairs tokens with what is added
    to their logits.

    Raises:
        InvalidRequestError: naming the field whose value is out of range.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[TokenId, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ignore_eos: bool = False
    """Tokens that end an answer do not, and are a part of it."""

    def __post_init__(self) -> None:
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            # Written so that NaN fails as well.
            if value is not None and not low <= value <= high:
                message = f"{field} must be between {low} and {high}, not {value}"
                raise InvalidRequestError(message, field=field)
        for field, least in (("max_tokens", 0), ("top_k", 1)):
            value = getattr(self, field)
            if value is not None and value < least:
                message = f"{field} must be at least {least}, not {value}"
                raise InvalidRequestError(message, field=field)
        if not 0 < self.top_p <= 1:
            raise InvalidRequestError(
                f"top_p must be above 0 and at most 1, not {self.top_p}", field="top_p"
            )
        self._check_bias()
        self._check_stop()

    def _check_bias(self) -> None:
        for token, bias in self.logit_bias:
            if token < 0:
                raise InvalidRequestError(f"logit_bias: {token} is no token id", field="logit_bias")
            if not -MAX_BIAS <= bias <= MAX_BIAS:
                raise InvalidRequestError(
                    f"logit_bias must be between -{MAX_BIAS:g} and {MAX_BIAS:g}, not {bias}",
                    field="logit_bias",
                )
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise InvalidRequestError("logit_bias names a token twice", field="logit_bias")

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

    @property
    def penalises(self) -> bool:
        """Whether the tokens so far change what comes next by more than the model's means."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def limits(self) -> bool:
        """Whether some tokens are never drawn."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0

    def check_vocabulary(self, size: int) -> None:
        """See that it speaks of no tokens but the `size` that a model has.

        Raises:
            InvalidRequestError: naming the field.
        """
        for token, _ in self.logit_bias:
            if token >= size:
                raise InvalidRequestError(
                    f"logit_bias: this model has no token {token}, only 0 to {size - 1}",
                    field="logit_bias",
                )


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a chosen token was, and the most likely ones in its place, the best first.

    Natural logarithms, of the distribution before the temperature.
    """

    logprob: float
    top: tuple[tuple[TokenId, float], ...] = ()


_MASK: Final = 2**64 - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def draw_key(seed: int, number: int) -> int:
    """The random key, 64 bits, of the draw that chooses the `number`-th token of an answer.

    A function of these two alone: whoever was preempted or restored goes on with the same draws,
    and neighbours change nothing. It is SplitMix64's `number`-th output (Steele, Lea, Flood:
    Fast splittable pseudorandom number generators, OOPSLA 2014), begun at a mixed seed so that
    seeds close to each other share no stretch of their draws.
    """
    return _mixed(_mixed(seed) + (number + 1) * _GOLDEN)


def _mixed(value: int) -> int:
    """SplitMix64's finaliser."""
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
