"""How long an answer may become, decided before any work is done for it."""

from dataclasses import dataclass

from semantic.domain.errors import ContextLengthError, KVBudgetError


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """All in tokens. `max_kv` is what the KV budget holds; None if it holds any prompt."""

    max_context: int
    default: int
    max_kv: int | None = None

    def of(
        self, prompt: int, wanted: int | None, asked: str = "messages", *, as_fits: bool = False
    ) -> int:
        """Tokens of an answer to so long a prompt, of which `wanted` are asked for.

        What the prompt is made of was `asked` in the field of that name. With `as_fits` there are
        fewer where there is no room for all of them.

        Raises:
            ContextLengthError: if both together exceed the model's context.
            KVBudgetError: if they exceed what the KV budget can ever hold.
        """
        takes = f"the {asked} {'take' if asked.endswith('s') else 'takes'} {prompt} tokens"
        needed = None if as_fits else wanted
        room = self.max_context - prompt
        self._check_context(room, needed, takes, asked)
        if self.max_kv is not None:
            room = min(room, self.max_kv - prompt)
            self._check_budget(self.max_kv, room, needed, takes, asked)
        return min(room, self.default if wanted is None else wanted)

    def _check_context(self, room: int, wanted: int | None, takes: str, asked: str) -> None:
        if room < 1:
            raise ContextLengthError(
                f"{takes}, which leaves no room for an answer in "
                f"this model's context of {self.max_context}",
                field=asked,
            )
        if wanted is not None and wanted > room:
            raise ContextLengthError(
                f"{takes} and max_tokens asks for {wanted} more, "
                f"but this model's context is {self.max_context}",
                field="max_tokens",
            )

    @staticmethod
    def _check_budget(budget: int, room: int, wanted: int | None, takes: str, asked: str) -> None:
        if room < 1:
            raise KVBudgetError(
                f"{takes}, but this server's memory for KV holds "
                f"{budget} with the answer: send less, or have the server given more",
                field=asked,
            )
        if wanted is not None and wanted > room:
            raise KVBudgetError(
                f"{takes} and max_tokens asks for {wanted} more, but "
                f"this server's memory for KV holds {budget}: ask for at most {room}, or send less",
                field="max_tokens",
            )
