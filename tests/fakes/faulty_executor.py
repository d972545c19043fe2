"""A scripted executor whose other calls fail as well."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.scripted_memory import ScriptedPart

from semantic.domain.block import PartKind, Tensor
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.ports.answer_constraints import Constraint
from semantic.ports.model_executor import AttachedBlock


@dataclass
class FaultyExecutor(ScriptedExecutor):
    """`failing` says for each call by its name how many times more it raises."""

    failing: dict[str, int] = field(default_factory=dict)

    def attach(
        self,
        sequence: SequenceId,
        tokens: Sequence[TokenId],
        blocks: Sequence[AttachedBlock],
        sampling: SamplingParams,
        generated: Sequence[TokenId] = (),
        constraint: Constraint | None = None,
    ) -> None:
        self._fail("attach")
        super().attach(sequence, tokens, blocks, sampling, generated, constraint)

    def seal(
        self, sequence: SequenceId, start: int, end: int, kind: PartKind
    ) -> ScriptedPart | None:
        self._fail("seal")
        return super().seal(sequence, start, end, kind)

    def import_part(
        self, kind: PartKind, tensors: Sequence[Tensor], num_tokens: int
    ) -> ScriptedPart:
        self._fail("import")
        return super().import_part(kind, tensors, num_tokens)

    def release(self, sequence: SequenceId) -> None:
        self._fail("release")
        super().release(sequence)

    def reset(self) -> None:
        self._fail("reset")
        super().reset()

    def _fail(self, name: str) -> None:
        left = self.failing.get(name, 0)
        if left:
            self.failing[name] = left - 1
            raise RuntimeError(f"{name} fails: the test says so")
