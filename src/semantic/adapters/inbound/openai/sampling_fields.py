"""How tokens are chosen, in OpenAI's words and those that other local servers have added."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.wire import Wire, as_list
from semantic.domain.sampling import SEED_BITS, SamplingParams

_SAME = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "min_p",
    "repetition_penalty",
    "ignore_eos",
)
"""Fields that the domain knows by the same name and means the same by."""

_TOKEN = re.compile(r"0|[1-9][0-9]{0,8}")


def _of_tokens(bias: dict[str, float] | None) -> dict[str, float] | None:
    """Its keys must be token ids, in the plainest way to write a number."""
    for token in bias or {}:
        if not _TOKEN.fullmatch(token):
            raise PydanticCustomError("no_token", "its keys must be token ids")
    return bias


class Sampling(Wire):
    """Fields of every request for an answer. Ranges are checked by the domain."""

    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Annotated[dict[str, float] | None, AfterValidator(_of_tokens)] = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**SEED_BITS)] | None = None
    stop: Annotated[
        list[str] | None,
        BeforeValidator(as_list, json_schema_input_type=str | list[str] | None),
    ] = None
    # Extensions that other local servers have, too.
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None

    def chosen(
        self, max_tokens: int | None, logprobs: int | None, prompt_logprobs: int | None = None
    ) -> SamplingParams:
        """The same in the domain's terms; what is not said, or null, as if by default.

        Raises:
            InvalidRequestError: naming the field whose value is out of range.
        """
        said: dict[str, Any] = {
            name: value for name in _SAME if (value := getattr(self, name)) is not None
        }
        if self.seed is not None:
            said["seed"] = self.seed % 2**SEED_BITS  # theirs are signed
        bias = self.logit_bias or {}
        return SamplingParams(
            **said,
            max_tokens=max_tokens,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            logit_bias=tuple((int(token), value) for token, value in bias.items()),
            stop=tuple(self.stop or ()),
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
        )
