"""Why a prompt was not remembered further: compared with what is known of who asks.

Of recent requests there are outlines, in memory: digests and tokens. Where there is none, after a
restart, an agent's record says where the difference is, and the text before it in which section.
Nothing here decides what is reused. Used from one event loop.
"""

from array import array
from collections import OrderedDict
from dataclasses import dataclass, replace

from semantic.application.engine_job import JobStarted
from semantic.application.prompts import Prompt, Prompts
from semantic.application.turn_memory import OpenTurn
from semantic.domain.agent import Branch
from semantic.domain.chat import Conversation, GenerationRequest, Role
from semantic.domain.ids import AgentKey, RequestId, TenantId, TokenId
from semantic.domain.prefix_index import common_length
from semantic.domain.prompt_outline import (
    Expectation,
    Outline,
    closest,
    expected,
    outline,
    reusable_of,
    told,
)
from semantic.domain.reuse import MissCause, Reuse

_CODE = "I"
"""Four bytes each: a vocabulary has no more."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that has been answered."""

    agent: AgentKey | None
    outline: Outline


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known of a prompt before it is computed. `outline` is None if it is no conversation.

    `near` tokens of what could be reused may be lost to a model that resumes from some positions.
    """

    outline: Outline | None
    expectation: Expectation | None
    otherwise: MissCause | None = None
    near: int = 0

    def reuse(self, started: JobStarted) -> Reuse:
        """What is told once it is known what is reused."""
        cached, obstacle = started.cached_tokens, started.obstacle
        known = self.expectation
        if obstacle is None and known and known.reusable - self.near < cached < known.reusable:
            obstacle = MissCause.ALIGNED
        found = told(known, cached, started.warm_tokens, obstacle)
        # Where nothing was expected, what is reused is somebody else's.
        unknown = known is None and found.cause is MissCause.CONTINUED
        if self.otherwise and (unknown or found.cause is MissCause.NEW):
            return replace(found, cause=self.otherwise)
        return found


class MissReport:
    """Of each tenant's last `limit` requests there are outlines.

    `near`: a model that resumes from some positions only may lose so many tokens to that.
    """

    def __init__(self, prompts: Prompts, limit: int, *, near: int = 0) -> None:
        self._prompts = prompts
        self._limit = limit
        self._near = near
        self._asked: dict[TenantId, OrderedDict[RequestId, _Asked]] = {}

    async def compared(
        self, request: GenerationRequest, turn: OpenTurn, prompt: Prompt
    ) -> Comparison:
        """Compare with the request that is named, or else the likeliest of who asks."""
        if not isinstance(prompt.said, Conversation):
            return Comparison(None, None, near=self._near)
        now = outline(prompt.said, array(_CODE, prompt.tokens))
        named = self._named(request)
        before = named or closest(now, self._earlier(turn))
        known = expected(now, before) if before else None
        branch = None if named else _recorded(prompt, turn, known)
        if branch is not None:
            known = await self._by_record(prompt.said, now, branch, prompt)
        unknown = MissCause.NEW if turn.agent else None
        otherwise = MissCause.OTHER_MODEL if turn.elsewhere else unknown
        return Comparison(now, known, otherwise, self._near)

    def answered(
        self,
        request: GenerationRequest,
        turn: OpenTurn,
        comparison: Comparison,
        answer: tuple[TokenId, ...],
    ) -> None:
        """A request has had its answer, of these tokens."""
        if comparison.outline is None or not self._limit:
            return
        tokens = array(_CODE, [*comparison.outline.tokens, *answer])
        asked = self._of(turn.tenant)
        asked.pop(request.request_id, None)
        asked[request.request_id] = _Asked(_key(turn), replace(comparison.outline, tokens=tokens))
        if len(asked) > self._limit:
            asked.popitem(last=False)

    def _of(self, tenant: TenantId) -> OrderedDict[RequestId, _Asked]:
        """A tenant's requests, the last one last."""
        return self._asked.setdefault(tenant, OrderedDict())

    def _named(self, request: GenerationRequest) -> Outline | None:
        if request.compared_to is None:
            return None
        found = self._of(request.tenant).get(request.compared_to)
        return found.outline if found else None

    def _earlier(self, turn: OpenTurn) -> list[Outline]:
        asked = self._of(turn.tenant).values()
        return [one.outline for one in asked if one.agent == _key(turn)]

    async def _by_record(
        self, said: Conversation, now: Outline, branch: Branch, prompt: Prompt
    ) -> Expectation:
        known = branch.ids
        same = common_length(now.tokens, known)
        reusable = reusable_of(same, len(known), len(now.tokens))
        if same >= min(len(now.tokens), len(known) - 1):
            return Expectation(reusable, same, MissCause.CONTINUED)
        text = await self._prompts.text_of(prompt.tokens[:same])
        cause, message = _first_beyond(said, text)
        return Expectation(reusable, same, cause, message)


def _recorded(prompt: Prompt, turn: OpenTurn, known: Expectation | None) -> Branch | None:
    """What the agent's record tells better than an outline: that the prompt goes on from it.

    After a restart there may be an outline of another conversation, and only the record of this.
    """
    branch = prompt.recalled.branch
    if known is None:
        return branch or next(reversed(turn.branches), None)
    return branch if len(prompt.recalled.ids) > known.difference else None


def _first_beyond(said: Conversation, text: str) -> tuple[MissCause, int | None]:
    """Which section is not wholly in the text that is the same."""
    position = 0
    for number, message in enumerate(said.messages):
        content = message.content.strip()
        found = text.find(content, position)
        if found >= 0:
            position = found + len(content)
            continue
        if message.role is Role.SYSTEM and number == 0:
            return MissCause.SYSTEM_CHANGED, number
        if any(tool.name not in text for tool in said.use.tools):
            return MissCause.TOOLS_CHANGED, None
        return MissCause.MESSAGES_CHANGED, number
    return MissCause.MESSAGES_CHANGED, None


def _key(turn: OpenTurn) -> AgentKey | None:
    return turn.agent.agent.key if turn.agent else None
