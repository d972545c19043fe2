"""The only place that names concrete adapters: it wires the application by hand.

Nothing here is decided; what is configurable comes from the settings, as values.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from semantic.adapters.config.settings import Settings, StoreSettings
from semantic.adapters.inbound.admin import AdminAccess
from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.application.administration import LiveAdministration, ServedMemory
from semantic.application.agent_deletion import Forgettable
from semantic.application.agents import AgentLimits, Agents
from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S, DiskThreads
from semantic.application.engine_loop import EngineLoop
from semantic.application.engine_work import EngineParts
from semantic.application.generation import AnsweringModel, Generation, GenerationLimits
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.prefix_loading import LoadingLimits
from semantic.application.request_log import RequestLog
from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
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
    engine: EngineLoop
    writes: WriteBehind
    blocks: IndexedBlocks
    lock: StoreLock
    telemetry: Telemetry

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
        self.lock.release()

    async def _close_blocks(self, timeout_s: float) -> None:
        """Give the index back, unless a hung disk keeps who is reading it."""
        closing = DiskThreads("store-closing", limit=1).begin(self.blocks.close)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(closing), timeout_s)


def build(settings: Settings, admin_token: str) -> Application:
    """Load the model, open the store, start the engine. `admin_token` opens administration.

    Raises:
        SemanticError: if the model cannot be loaded or the store not be opened.
    """
    telemetry, clock = StructuredLog(), SystemClock()
    root = settings.store.path
    lock = StoreLock(root)
    lock.acquire()
    secret = secret_file.opened(root)
    blocks, records = IndexedBlocks(root, telemetry, clock), AgentFiles(root, telemetry)
    keeper = _keeper(settings.store, blocks, clock, telemetry)
    writes = WriteBehind(blocks, records, settings.store.queue_bytes, telemetry, keeper)
    tiers = TieredStore(blocks, writes)
    engine = EngineLoop(settings.engine.max_batch + settings.engine.max_waiting, telemetry)
    models: list[LoadedModel] = []
    silence_s = min(SILENCE_S, settings.store.read_timeout_s)

    def parts() -> EngineParts:
        model, chunk_alone = _load(settings, telemetry)
        models.append(model)
        capabilities = model.executor.capabilities
        kept = CacheLimits(
            settings.store.hot_bytes,
            settings.store.state_interval,
            settings.store.resume_points,
            silence_s,
        )
        cache = KvCache(model.executor, writes, kept, telemetry, secret)
        known = cache.discover(tiers)
        telemetry.info("store_opened", folder=str(root), blocks=known, cap=keeper.cap)
        writes.tend(cache.served)
        limits = SchedulerLimits(
            max_batch=capabilities.max_batch,
            chunk_alone=chunk_alone,
            chunk_shared=settings.engine.chunk_tokens_shared,
        )
        # Reading is mostly copying and hashing: threads without a core of their own only queue.
        threads = min(settings.store.reader_threads, os.cpu_count() or 1)
        reader = BlockReader(tiers, threads, clock, telemetry)
        return EngineParts(
            executor=model.executor,
            cache=cache,
            scheduler=Scheduler(limits),
            reader=reader,
            clock=clock,
            telemetry=telemetry,
            loading=LoadingLimits(
                settings.store.read_timeout_s, always=settings.store.restore == "always"
            ),
        )

    engine.start(parts)
    (model,) = models
    capabilities = model.executor.capabilities
    info = ModelInfo(model.model_id, model.created, capabilities.max_context)
    spec = capabilities.spec
    remembered = AgentLimits(settings.agents.max_branches, silence_s)
    agents = Agents(records, writes, capabilities.namespace, remembered, clock, telemetry)
    generation = Generation(
        AnsweringModel(info, model.tokenizer, spec is None or spec.resume_rule.anywhere),
        engine,
        agents,
        GenerationLimits(
            settings.generation.default_max_tokens,
            settings.store.commit_timeout_s,
            awaits_commit=settings.store.durability == "full",
        ),
        telemetry,
    )
    http = settings.server
    limits = Limits(http.max_body_bytes, http.ping_interval_s, http.cut_off_s)
    served = ServedMemory(capabilities.namespace, agents, engine, writes)
    stored = Forgettable(records, tiers, secret)
    administration = LiveAdministration(stored, blocks, served, settings.store.commit_timeout_s)
    app = create_app(
        RequestLog(generation, clock, telemetry),
        telemetry,
        clock,
        limits,
        admin=AdminAccess(administration, admin_token),
    )
    return Application(app, info, generation, engine, writes, blocks, lock, telemetry)


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


def _load(settings: Settings, telemetry: Telemetry) -> tuple[LoadedModel, int]:
    """The model, and the tokens of prefill that suit its device while nobody else decodes."""
    cache_dir: Path = settings.model.cache_path
    chosen = blas.preload(cache_dir, settings.engine.blas_threads)
    telemetry.info(
        "blas", name=chosen.name, core=chosen.core, threads=chosen.threads, reason=chosen.reason
    )
    # mlx-lm imports transformers, which would tell every user that PyTorch is missing.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Importing MLX binds its BLAS, so it comes after the choice.
    from semantic.adapters.outbound.mlx import model_loader  # noqa: PLC0415

    loader = model_loader.MlxModelLoader(
        settings.model.id,
        cache_dir,
        settings.engine.max_batch,
        telemetry,
        settings.store.quantized_bits,
    )
    model = loader.load()
    on_cpu = model_loader.backend() == "cpu"
    engine = settings.engine
    telemetry.info(
        "model_loaded",
        model=model.model_id,
        backend=model_loader.backend(),
        kv_bits=settings.store.kv_bits,
        namespace=model.executor.capabilities.namespace,
    )
    return model, engine.chunk_tokens_cpu if on_cpu else engine.chunk_tokens_gpu
