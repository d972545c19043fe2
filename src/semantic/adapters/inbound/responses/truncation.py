"""Conversations that are too long for the model, shortened at their beginning if that is asked for.

Whole turns go, from the oldest question on; what leads the conversation stays, and so does the
last question with all that follows. At least a multiple of a quarter of the context goes: the
next requests of the same conversation are cut in the same place, so that their prompts begin alike
and memory serves them.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from semantic.domain.chat import Conversation, GenerationEvent, GenerationRequest, Role
from semantic.domain.errors import ContextLengthError
from semantic.ports.inference import Inference

_PARTS: Final = 4


async def admitted(
    inference: Inference, request: GenerationRequest, *, truncates: bool
) -> AsyncGenerator[GenerationEvent, None]:
    """The request's events; shortened, if it is too long and that helps.

    Raises:
        SemanticError: as the inference does.
    """
    try:
        return await inference.generate(request)
    except ContextLengthError:
        prompt = request.prompt
        if not truncates or not isinstance(prompt, Conversation):
            raise
        shorter = await _shortened(inference, request, prompt)
        if shorter is None:
            raise
    return await inference.generate(replace(request, prompt=shorter))


async def _shortened(
    inference: Inference, request: GenerationRequest, prompt: Conversation
) -> Conversation | None:
    """The conversation without as many turns as must go; None if too much would be left."""
    info = next(info for info in inference.models() if info.answers_to(request.model))
    part = max(1, info.max_context // _PARTS)
    total = await inference.count(prompt, request.model)
    # Where no length of the answer is asked for, a part of the context is left to it.
    answer = part if request.sampling.max_tokens is None else request.sampling.max_tokens
    excess = total + answer - info.max_context
    shorter = _cuts(prompt)

    async def gone(number: int) -> int:
        return total - await inference.count(shorter[number], request.model)

    # The later the cut, the more goes: the first one that is enough is found by halving.
    low, high = 0, len(shorter)
    while low < high:
        middle = (low + high) // 2
        enough = await gone(middle) >= -(-excess // part) * part
        low, high = (low, middle) if enough else (middle + 1, high)
    if low < len(shorter):
        return shorter[low]
    return shorter[-1] if shorter and await gone(-1) >= excess else None


def _cuts(prompt: Conversation) -> list[Conversation]:
    """The conversation from its second question on, from its third, and so on to its last."""
    messages = prompt.messages
    lead = next(
        (number for number, one in enumerate(messages) if one.role is not Role.SYSTEM),
        len(messages),
    )
    return [
        replace(prompt, messages=messages[:lead] + messages[number:])
        for number in range(lead + 1, len(messages))
        if messages[number].role is Role.USER
    ]
