"""Wires the application by hand; with `let_in`, `opened_store` and `started_engine`.

No other module names concrete adapters. Nothing here is decided; what is configurable comes from
the settings, as values.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import randbits

from fastapi import FastAPI

from semantic.adapters.config.settings import ResponseSettings, ServerSettings, Settings
from semantic.adapters.inbound.admin import AdminAccess
from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.doors import Doors
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.adapters.outbound.storage.response_files import ResponseFiles, ResponseLimits
from semantic.adapters.outbound.system.call_ids import random_call_id
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.application.access import Access
from semantic.application.administration import LiveAdministration, ServedMemory
from semantic.application.agent_deletion import Forgettable
from semantic.application.agents import AgentLimits, Agents
from semantic.application.disk_threads import DiskThreads
from semantic.application.generation import (
    AnsweringModel,
    Generation,
    GenerationLimits,
    Surroundings,
)
from semantic.application.request_log import RequestLog
from semantic.application.response_history import ResponseHistory
from semantic.domain.api_key import KeyLimits
from semantic.domain.sampling import SEED_BITS
from semantic.entrypoints.let_in import let_in
from semantic.entrypoints.opened_store import OpenedStore, opened_store
from semantic.entrypoints.started_engine import StartedEngine, started_engine
from semantic.ports.answer_constraints import AnswerConstraints
from semantic.ports.clock import Clock
from semantic.ports.inference import ModelInfo
from semantic.ports.model_loader import LoadedModel
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Application:
    """A wired server, its engine running."""

    app: FastAPI
    model: ModelInfo
    generation: Generation
    engine: StartedEngine
    store: OpenedStore
    telemetry: Telemetry
    access: Access

    def end_answers(self) -> None:
        """End running answers, and wait for none. May be called while a signal is handled."""
        self.engine.loop.stop(0)

    async def close(self, timeout_s: float) -> None:
        """End running answers, keep what they computed, write what waits, free the store."""
        if not self.engine.loop.stop(timeout_s):
            self.telemetry.warning("engine_not_stopped", waited_s=timeout_s)
        if not await self.generation.drain(timeout_s):
            self.telemetry.warning("answers_not_finished", waited_s=timeout_s)
        if not self.store.writes.close(timeout_s):
            self.telemetry.warning("writes_not_finished", waited_s=timeout_s)
        else:
            await self._close_blocks(timeout_s)
        self.access.close()
        self.store.lock.release()

    async def _close_blocks(self, timeout_s: float) -> None:
        """Give the index back, unless a hung disk keeps who is reading it."""
        closing = DiskThreads("store-closing", limit=1).begin(self.store.blocks.close)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(closing), timeout_s)


def build(settings: Settings, admin_token: str, *, reachable: bool = False) -> Application:
    """Load the model, open the store, start the engine. `admin_token` opens administration.

    `reachable`: by others than the users of this machine.

    Raises:
        SemanticError: if the model cannot be loaded, the store not be opened, or the doors would
            stand open to the world.
    """
    telemetry, clock = StructuredLog(), SystemClock()
    access = let_in(settings, telemetry, reachable=reachable)
    store = opened_store(settings.store, clock, telemetry)
    engine = started_engine(settings, store, clock, telemetry)
    agents = _agents(settings, store, engine, clock, telemetry)
    generation = _generation(settings, engine, agents, clock, telemetry)
    access.start()
    http = settings.server
    per_key = KeyLimits(settings.auth.requests_per_minute, settings.auth.concurrent)
    app = create_app(
        RequestLog(generation, clock, telemetry),
        telemetry,
        clock,
        _limits(http),
        admin=AdminAccess(_administration(settings, store, engine, agents), admin_token),
        doors=Doors(access, per_key, http.hosts, http.origins),
        named_by=settings.agents.hints,
        history=_history(settings.responses, store.root, clock, telemetry),
    )
    (info,) = generation.models()
    return Application(app, info, generation, engine, store, telemetry, access)


def _agents(
    settings: Settings,
    store: OpenedStore,
    engine: StartedEngine,
    clock: Clock,
    telemetry: Telemetry,
) -> Agents:
    namespace = engine.model.executor.capabilities.namespace
    others = tuple(one for one in store.namespaces if one != namespace)
    limits = AgentLimits(settings.agents.max_branches, engine.silence_s, others)
    return Agents(store.records, store.writes, namespace, limits, clock, telemetry)


def _generation(
    settings: Settings, engine: StartedEngine, agents: Agents, clock: Clock, telemetry: Telemetry
) -> Generation:
    model = engine.model
    capabilities = model.executor.capabilities
    spec = capabilities.spec
    names = settings.model.names
    answering = AnsweringModel(
        ModelInfo(model.model_id, model.created, capabilities.max_context, names),
        model.tokenizer,
        spec is None or spec.resume_rule.anywhere,
        capabilities.vocab_size,
        engine.max_kv_tokens,
        _constraints(model, telemetry),
        rules=settings.prompt.rules,
    )
    limits = GenerationLimits(
        settings.generation.default_max_tokens,
        settings.store.commit_timeout_s,
        awaits_commit=settings.store.durability == "full",
        recent_turns=settings.agents.recent_turns,
    )
    around = Surroundings(clock, telemetry, partial(randbits, SEED_BITS), random_call_id)
    return Generation(answering, engine.loop, agents, limits, around)


def _administration(
    settings: Settings, store: OpenedStore, engine: StartedEngine, agents: Agents
) -> LiveAdministration:
    namespace, gauge = engine.model.executor.capabilities.namespace, engine.parts.cache.gauge
    served = ServedMemory(namespace, agents, engine.loop, store.writes, gauge)
    stored = Forgettable(store.records, store.tiers, store.secret)
    return LiveAdministration(stored, store.blocks, served, settings.store.commit_timeout_s)


def _limits(http: ServerSettings) -> Limits:
    return Limits(
        http.max_body_bytes,
        http.ping_interval_s,
        http.cut_off_s,
        http.max_header_bytes,
        http.request_timeout_s,
    )


def _history(
    responses: ResponseSettings, root: Path, clock: Clock, telemetry: Telemetry
) -> ResponseHistory | None:
    if not responses.max_bytes:
        return None
    limits = ResponseLimits(responses.max_count, responses.max_bytes, responses.max_age_s)
    return ResponseHistory(ResponseFiles(root, limits, clock, telemetry), telemetry)


def _constraints(model: LoadedModel, telemetry: Telemetry) -> AnswerConstraints | None:
    """None for a model whose answers nothing ends: there is no telling that one is complete."""
    size = model.executor.capabilities.vocab_size
    if not any(token < size for token in model.tokenizer.stop_tokens):
        telemetry.warning("answers_not_held", model=model.model_id, reason="no token ends them")
        return None
    return GuidedAnswers(model.tokenizer, size, telemetry)
