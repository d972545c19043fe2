"""How long an answer may become, decided before any work is done for it."""

from dataclasses import dataclass

from semantic.domain.errors import ContextLengthError, KVBudgetError


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """All in tokens. `max_kv` is what the KV budget holds; None if it holds any prompt."""

    max_context: int
    default: int
    max_kv: int | None = None

    def of(self, prompt: int, wanted: int | None, *, as_fits: bool = False) -> int:
        """Tokens of an answer to so long a prompt, of which `wanted` are asked for.

        With `as_fits` there are fewer where there is no room for all of them.

        Raises:
            ContextLengthError: if both together exceed the model's context.
            KVBudgetError: if they exceed what the KV budget can ever hold.
        """
        needed = None if as_fits else wanted
        room = self._in_context(prompt, needed)
        if self.max_kv is not None:
            room = min(room, self._in_budget(prompt, needed, self.max_kv))
        return min(room, self.default if wanted is None else wanted)

    def _in_context(self, prompt: int, wanted: int | None) -> int:
        room = self.max_context - prompt
        if room < 1:
            raise ContextLengthError(
                f"the messages take {prompt} tokens and leave no room for an answer in "
                f"this model's context of {self.max_context}",
                field="messages",
            )
        if wanted is not None and wanted > room:
            raise ContextLengthError(
                f"the messages take {prompt} tokens and max_tokens asks for {wanted} more, "
                f"but this model's context is {self.max_context}",
                field="max_tokens",
            )
        return room

    @staticmethod
    def _in_budget(prompt: int, wanted: int | None, budget: int) -> int:
        room = budget - prompt
        if room < 1:
            raise KVBudgetError(
                f"the messages take {prompt} tokens, but this server's memory for KV holds "
                f"{budget} with the answer: send less, or have the server given more",
                field="messages",
            )
        if wanted is not None and wanted > room:
            raise KVBudgetError(
                f"the messages take {prompt} tokens and max_tokens asks for {wanted} more, but "
                f"this server's memory for KV holds {budget}: ask for at most {room}, or send less",
                field="max_tokens",
            )
        return room
