"""The only place that names concrete adapters: it wires the application by hand.

Nothing here is decided; what is configurable comes from the settings, as values.
"""

import asyncio
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import randbits

from fastapi import FastAPI

from semantic.adapters.config.settings import (
    EngineSettings,
    ResponseSettings,
    Settings,
    SettingsError,
    StoreSettings,
)
from semantic.adapters.inbound.admin import AdminAccess
from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.cors import ANY
from semantic.adapters.inbound.doors import Doors
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.outbound.constraints.guided_answers import GuidedAnswers
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.key_file import KeyFile
from semantic.adapters.outbound.storage.response_files import ResponseFiles, ResponseLimits
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.call_ids import random_call_id
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.application.access import Access
from semantic.application.administration import LiveAdministration, ServedMemory
from semantic.application.agent_deletion import Forgettable
from semantic.application.agents import AgentLimits, Agents
from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S, DiskThreads
from semantic.application.engine_loop import EngineLoop, LoopLimits
from semantic.application.engine_work import EngineParts
from semantic.application.generation import (
    AnsweringModel,
    Generation,
    GenerationLimits,
    Surroundings,
)
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.kv_memory import most_tokens
from semantic.application.prefix_loading import LoadingLimits
from semantic.application.request_log import RequestLog
from semantic.application.response_history import ResponseHistory
from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.api_key import KeyLimits
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.sampling import SEED_BITS
from semantic.ports.answer_constraints import AnswerConstraints
from semantic.ports.clock import Clock
from semantic.ports.inference import ModelInfo
from semantic.ports.model_loader import LoadedModel
from semantic.ports.telemetry import Telemetry

_MS_A_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Application:
    """A wired server, its engine running."""

    app: FastAPI
    model: ModelInfo
    generation: Generation
    engine: EngineLoop
    parts: EngineParts
    writes: WriteBehind
    blocks: IndexedBlocks
    lock: StoreLock
    telemetry: Telemetry
    access: Access

    def end_answers(self) -> None:
        """End running answers, and wait for none. May be called while a signal is handled."""
        self.engine.stop(0)

    async def close(self, timeout_s: float) -> None:
        """End running answers, keep what they computed, write what waits, free the store."""
        if not self.engine.stop(timeout_s):
            self.telemetry.warning("engine_not_stopped", waited_s=timeout_s)
        if not await self.generation.drain(timeout_s):
            self.telemetry.warning("answers_not_finished", waited_s=timeout_s)
        if not self.writes.close(timeout_s):
            self.telemetry.warning("writes_not_finished", waited_s=timeout_s)
        else:
            await self._close_blocks(timeout_s)
        self.access.close()
        self.lock.release()

    async def _close_blocks(self, timeout_s: float) -> None:
        """Give the index back, unless a hung disk keeps who is reading it."""
        closing = DiskThreads("store-closing", limit=1).begin(self.blocks.close)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(closing), timeout_s)


def _access(settings: Settings, telemetry: Telemetry, *, reachable: bool) -> Access:
    """Who is let in.

    Raises:
        SettingsError: if others can reach the server, and everybody would be let in.
        CachePersistenceError: if the keys cannot be read.
    """
    http = settings.server
    closed = reachable and not http.allow_open
    keys = KeyFile(settings.store.path)
    access = Access(keys, telemetry, needed=closed)
    if closed and not keys.all():
        raise SettingsError(
            f"others can reach {http.host} (server.host), and there is no API key yet: create one "
            "(semantic keys create NAME), or let everybody in with server.allow_open = true"
        )
    if access.open and ANY in http.origins:
        raise SettingsError(
            "any web page could talk to the server (server.cors_origins is *), and there is no "
            "API key yet: create one (semantic keys create NAME), or name the pages"
        )
    return access


def build(settings: Settings, admin_token: str, *, reachable: bool = False) -> Application:
    """Load the model, open the store, start the engine. `admin_token` opens administration.

    `reachable`: by others than the users of this machine.

    Raises:
        SemanticError: if the model cannot be loaded, the store not be opened, or the doors would
            stand open to the world.
    """
    telemetry, clock = StructuredLog(), SystemClock()
    root = settings.store.path
    access = _access(settings, telemetry, reachable=reachable)
    lock = StoreLock(root)
    lock.acquire()
    secret = secret_file.opened(root)
    blocks, records = IndexedBlocks(root, telemetry, clock), AgentFiles(root, telemetry)
    namespaces = blocks.index.namespaces()
    keeper = _keeper(settings.store, blocks, clock, telemetry)
    writes = WriteBehind(blocks, records, settings.store.queue_bytes, telemetry, keeper)
    tiers = TieredStore(blocks, writes)
    engine = EngineLoop(_loop_limits(settings.engine), clock, telemetry)
    built: list[tuple[LoadedModel, EngineParts]] = []
    silence_s = min(SILENCE_S, settings.store.read_timeout_s)

    def build_engine() -> EngineParts:
        model, device = _load(settings, telemetry)
        capabilities = model.executor.capabilities
        kept = CacheLimits(
            settings.store.hot_bytes,
            settings.store.state_interval,
            settings.store.resume_points,
            silence_s,
            device.kv_bytes,
        )
        cache = KvCache(model.executor, writes, kept, telemetry, secret)
        known = cache.discover(tiers)
        telemetry.info("store_opened", folder=str(root), blocks=known, cap=keeper.cap)
        writes.tend(cache.served)
        limits = SchedulerLimits(
            max_batch=capabilities.max_batch,
            chunk_alone=device.chunk,
            chunk_shared=min(settings.engine.chunk_tokens_shared, device.chunk),
            stall_s=device.stall_s,
        )
        # Reading is mostly copying and hashing: threads without a core of their own only queue.
        threads = min(settings.store.reader_threads, os.cpu_count() or 1)
        reader = BlockReader(tiers, threads, clock, telemetry)
        parts = EngineParts(
            executor=model.executor,
            cache=cache,
            scheduler=Scheduler(limits, model.executor.batch_bytes, capabilities.weights_bytes),
            reader=reader,
            clock=clock,
            telemetry=telemetry,
            loading=LoadingLimits(
                settings.store.read_timeout_s, always=settings.store.restore == "always"
            ),
        )
        built.append((model, parts))
        return parts

    engine.start(build_engine)
    ((model, engine_parts),) = built
    capabilities = model.executor.capabilities
    info = ModelInfo(model.model_id, model.created, capabilities.max_context, settings.model.names)
    spec = capabilities.spec
    others = tuple(one for one in namespaces if one != capabilities.namespace)
    remembered = AgentLimits(settings.agents.max_branches, silence_s, others)
    agents = Agents(records, writes, capabilities.namespace, remembered, clock, telemetry)
    generation = Generation(
        AnsweringModel(
            info,
            model.tokenizer,
            spec is None or spec.resume_rule.anywhere,
            capabilities.vocab_size,
            _max_kv_tokens(engine_parts),
            _constraints(model, telemetry),
            rules=settings.prompt.rules,
        ),
        engine,
        agents,
        GenerationLimits(
            settings.generation.default_max_tokens,
            settings.store.commit_timeout_s,
            awaits_commit=settings.store.durability == "full",
            recent_turns=settings.agents.recent_turns,
        ),
        Surroundings(clock, telemetry, partial(randbits, SEED_BITS), random_call_id),
    )
    http = settings.server
    limits = Limits(
        http.max_body_bytes,
        http.ping_interval_s,
        http.cut_off_s,
        http.max_header_bytes,
        http.request_timeout_s,
    )
    per_key = KeyLimits(settings.auth.requests_per_minute, settings.auth.concurrent)
    access.start()
    served = ServedMemory(capabilities.namespace, agents, engine, writes, engine_parts.cache.gauge)
    stored = Forgettable(records, tiers, secret)
    administration = LiveAdministration(stored, blocks, served, settings.store.commit_timeout_s)
    app = create_app(
        RequestLog(generation, clock, telemetry),
        telemetry,
        clock,
        limits,
        admin=AdminAccess(administration, admin_token),
        doors=Doors(access, per_key, http.hosts, http.origins),
        named_by=settings.agents.hints,
        history=_history(settings.responses, root, clock, telemetry),
    )
    return Application(
        app, info, generation, engine, engine_parts, writes, blocks, lock, telemetry, access
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


def _loop_limits(engine: EngineSettings) -> LoopLimits:
    return LoopLimits(engine.max_batch + engine.max_waiting, engine.step_timeout_s)


def _max_kv_tokens(parts: EngineParts) -> int:
    """Tokens that one request may have at most.

    Raises:
        SettingsError: if that is not even one block.
    """
    budget = parts.cache.parts.pool.total
    found = most_tokens(
        parts.executor.batch_bytes,
        parts.cache.block_bytes,
        budget,
        parts.executor.capabilities.max_context,
    )
    if found < min(BLOCK_SIZE, parts.executor.capabilities.max_context):
        raise SettingsError(
            f"engine.kv_bytes is {budget}, which holds {found} tokens of this model: allow more"
        )
    return found


def _keeper(
    store: StoreSettings, blocks: IndexedBlocks, clock: Clock, telemetry: Telemetry
) -> SpaceKeeper:
    limits = SpaceLimits(
        max_bytes=store.max_bytes,
        max_share=store.max_disk_share,
        min_free_bytes=store.min_free_bytes,
        daily_write_bytes=store.daily_write_bytes,
        writes=store.writes,
        high_watermark=store.high_watermark,
        low_watermark=store.low_watermark,
        recheck_s=store.recheck_s,
    )
    return SpaceKeeper(blocks, DiskSpace(store.path, blocks, clock), limits, clock, telemetry)


@dataclass(frozen=True, slots=True)
class _Device:
    """What suits the device: tokens of prefill in a step, seconds between tokens, bytes of KV."""

    chunk: int
    stall_s: float
    kv_bytes: int


def _load(settings: Settings, telemetry: Telemetry) -> tuple[LoadedModel, _Device]:
    """The model, and what suits the device that it is on."""
    cache_dir: Path = settings.model.cache_path
    engine = settings.engine
    chosen = blas.preload(cache_dir, engine.blas_threads)
    telemetry.info(
        "blas", name=chosen.name, core=chosen.core, threads=chosen.threads, reason=chosen.reason
    )
    # mlx-lm imports transformers, which would tell every user that PyTorch is missing.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Importing MLX binds its BLAS, so it comes after the choice.
    from semantic.adapters.outbound.mlx import device_memory, model_loader  # noqa: PLC0415

    on_cpu = model_loader.backend() == "cpu"
    chunk = engine.chunk_tokens_cpu if on_cpu else engine.chunk_tokens_gpu
    loader = model_loader.MlxModelLoader(
        settings.model.id,
        cache_dir,
        engine.max_batch,
        telemetry,
        settings.store.quantized_bits,
        chunk,
    )
    model = loader.load()
    stall_ms = engine.decode_stall_ms_cpu if on_cpu else engine.decode_stall_ms_gpu
    kv_bytes = engine.kv_bytes or device_memory.kv_budget()
    telemetry.info(
        "model_loaded",
        model=model.model_id,
        backend=model_loader.backend(),
        kv_bits=settings.store.kv_bits,
        namespace=model.executor.capabilities.namespace,
        kv_bytes=kv_bytes,
    )
    return model, _Device(chunk, stall_ms / _MS_A_SECOND if stall_ms else math.inf, kv_bytes)
