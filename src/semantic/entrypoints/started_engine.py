"""Loads the model on the engine's thread, and starts the engine."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.config.settings import Settings, SettingsError, StoreSettings
from semantic.adapters.outbound.mlx import blas
from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S
from semantic.application.engine_loop import EngineLoop, LoopLimits
from semantic.application.engine_work import EngineParts
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.kv_memory import most_tokens
from semantic.application.prefix_loading import LoadingLimits
from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.entrypoints.opened_store import OpenedStore
from semantic.ports.clock import Clock
from semantic.ports.model_loader import LoadedModel
from semantic.ports.telemetry import Telemetry

_MS_A_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Device:
    """What suits the device: tokens of prefill in a step, seconds between tokens, bytes of KV."""

    chunk: int
    stall_s: float
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """A running engine, and the model that it runs."""

    loop: EngineLoop
    model: LoadedModel
    parts: EngineParts
    silence_s: float
    """How long a disk may say nothing."""

    @property
    def max_kv_tokens(self) -> int:
        """Tokens that one request may have at most.

        Raises:
            SettingsError: if that is not even one block.
        """
        budget = self.parts.cache.parts.pool.total
        found = most_tokens(
            self.parts.executor.batch_bytes,
            self.parts.cache.block_bytes,
            budget,
            self.parts.executor.capabilities.max_context,
        )
        if found < min(BLOCK_SIZE, self.parts.executor.capabilities.max_context):
            raise SettingsError(
                f"engine.kv_bytes is {budget}, which holds {found} tokens of this model: allow more"
            )
        return found


def started_engine(
    settings: Settings, store: OpenedStore, clock: Clock, telemetry: Telemetry
) -> StartedEngine:
    """Load the model, know what the store holds for it, and start.

    Raises:
        SemanticError: if the model cannot be loaded, or the store not be read.
    """
    allowed = settings.engine
    limits = LoopLimits(allowed.max_batch + allowed.max_waiting, allowed.step_timeout_s)
    loop = EngineLoop(limits, clock, telemetry)
    built: list[tuple[LoadedModel, EngineParts]] = []

    def build() -> EngineParts:
        model, device = load(settings, telemetry)
        parts = EngineParts(
            executor=model.executor,
            cache=_cache(settings.store, model, store, device.kv_bytes, telemetry),
            scheduler=_scheduler(settings, model, device),
            reader=_reader(settings.store, store, clock, telemetry),
            clock=clock,
            telemetry=telemetry,
            loading=LoadingLimits(
                settings.store.read_timeout_s, always=settings.store.restore == "always"
            ),
        )
        built.append((model, parts))
        return parts

    loop.start(build)
    ((model, parts),) = built
    return StartedEngine(loop, model, parts, _silence_s(settings.store))


def _silence_s(store: StoreSettings) -> float:
    return min(SILENCE_S, store.read_timeout_s)


def _cache(
    settings: StoreSettings,
    model: LoadedModel,
    store: OpenedStore,
    kv_bytes: int,
    telemetry: Telemetry,
) -> KvCache:
    kept = CacheLimits(
        settings.hot_bytes,
        settings.state_interval,
        settings.resume_points,
        _silence_s(settings),
        kv_bytes,
    )
    cache = KvCache(model.executor, store.writes, kept, telemetry, store.secret)
    known = cache.discover(store.tiers)
    telemetry.info("store_opened", folder=str(store.root), blocks=known, cap=store.keeper.cap)
    store.writes.tend(cache.served)
    return cache


def _scheduler(settings: Settings, model: LoadedModel, device: Device) -> Scheduler:
    capabilities = model.executor.capabilities
    limits = SchedulerLimits(
        max_batch=capabilities.max_batch,
        chunk_alone=device.chunk,
        chunk_shared=min(settings.engine.chunk_tokens_shared, device.chunk),
        stall_s=device.stall_s,
    )
    return Scheduler(limits, model.executor.batch_bytes, capabilities.weights_bytes)


def _reader(
    settings: StoreSettings, store: OpenedStore, clock: Clock, telemetry: Telemetry
) -> BlockReader:
    # Reading is mostly copying and hashing: threads without a core of their own only queue.
    threads = min(settings.reader_threads, os.cpu_count() or 1)
    return BlockReader(store.tiers, threads, clock, telemetry)


def load(settings: Settings, telemetry: Telemetry) -> tuple[LoadedModel, Device]:
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
    return model, Device(chunk, stall_ms / _MS_A_SECOND if stall_ms else math.inf, kv_bytes)
