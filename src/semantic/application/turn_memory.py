"""What a turn begins with and what it leaves behind: of an agent's record, or of recent turns.

Invariant: a turn that was opened is closed once; that it could not be remembered is reported, and
costs no answer. Used from one event loop.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from semantic.application.agents import Agents, OpenAgent
from semantic.application.engine_job import JobEnded
from semantic.application.prompts import Prompt, Prompts
from semantic.application.recent_turns import RecentTurns
from semantic.domain.agent import Branch
from semantic.domain.chat import Asker, ChatMessage, Conversation
from semantic.domain.ids import TenantId
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A request and what is remembered of who asks; `agent` is None if it names none.

    `elsewhere`: whether the agent is known to another model, and to this one not.
    """

    tenant: TenantId
    agent: OpenAgent | None
    branches: tuple[Branch, ...]
    elsewhere: bool = False


class TurnMemory:
    """The turns of one model. `commit_timeout_s`: for so long one is waited for to be safe."""

    def __init__(
        self,
        agents: Agents,
        recent: RecentTurns,
        prompts: Prompts,
        telemetry: Telemetry,
        commit_timeout_s: float,
    ) -> None:
        self._agents = agents
        self._recent = recent
        self._prompts = prompts
        self._telemetry = telemetry
        self._commit_timeout_s = commit_timeout_s

    async def open(self, asker: Asker) -> OpenTurn:
        """What is known of who asks. To be closed again."""
        if asker.agent is None:
            known = self._recent.branches(asker.tenant)
            return OpenTurn(asker.tenant, None, known)
        agent = await self._agents.open(asker.agent, asker.tenant)
        known = agent.record.branches
        if not known:
            # Somebody may have begun without a name.
            known = self._recent.branches(asker.tenant)
        return OpenTurn(asker.tenant, agent, known, agent.elsewhere)

    def close(self, turn: OpenTurn) -> None:
        """The turn is over."""
        if turn.agent:
            self._agents.close(turn.agent)

    async def remember(
        self, turn: OpenTurn, prompt: Prompt, ended: JobEnded, answer: ChatMessage
    ) -> Awaitable[bool] | None:
        """Remember the turn; it is safe when what is returned says so. None: there is nothing.

        `answer` is what the client was told of it.
        """
        if turn.agent is None and not isinstance(prompt.said, Conversation):
            return None
        try:
            new = await self._prompts.turn(prompt, ended.remembered, answer)
            if not new:
                return None
            if turn.agent:
                return self._agents.remember(turn.agent, prompt.recalled, new)
            self._recent.remember(turn.tenant, prompt.recalled, new)
        except Exception as error:  # noqa: BLE001 - as said: the answer has been given
            self._telemetry.error("turn_not_remembered", error=repr(error))
        return None

    async def safe(self, turn: OpenTurn, saving: Awaitable[bool]) -> None:
        """Wait for a turn to be safe, but not for ever: it goes on behind in any case."""
        try:
            await asyncio.wait_for(saving, self._commit_timeout_s)
        except TimeoutError:
            agent = turn.agent.agent.key if turn.agent else None
            self._telemetry.warning("commit_timed_out", agent=agent)
