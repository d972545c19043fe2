"""From a model folder to a running executor: weights, precision, shapes, identity."""

from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import dequantize_model, load_model

from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.adapters.outbound.mlx.declared_cache import contradictions
from semantic.adapters.outbound.mlx.executor import LARGEST_CHUNK, MlxExecutor
from semantic.adapters.outbound.mlx.identity import digest_model
from semantic.adapters.outbound.mlx.kv_bits import in_bits
from semantic.adapters.outbound.mlx.model_source import ResolvedModel, resolve
from semantic.adapters.outbound.mlx.ragged import max_batch
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer
from semantic.domain.cache_spec import CacheIdentity, Granularity, ModelCacheSpec
from semantic.domain.errors import EngineError, IncompatibleCacheError, ModelLoadError
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import Capabilities
from semantic.ports.model_loader import LoadedModel
from semantic.ports.telemetry import Telemetry

_UNLIMITED_CONTEXT = 1 << 20
"""Assumed where a model's config names no limit."""


class MlxModelLoader:
    """Loads the model that `model_id` names, onto the default device.

    `chunk`: the most tokens that are prefilled at once. Its KV is kept in `kv_bits` bits an
    element; None keeps it as the model computes it.
    """

    def __init__(
        self,
        model_id: str,
        cache_dir: Path,
        batch_limit: int,
        telemetry: Telemetry,
        kv_bits: int | None = None,
        chunk: int = LARGEST_CHUNK,
    ) -> None:
        self._model_id = model_id
        self._cache_dir = cache_dir
        self._batch_limit = batch_limit
        self._telemetry = telemetry
        self._chunk = chunk
        self._kv_bits = kv_bits

    def load(self) -> LoadedModel:
        """Find, read and check the model."""
        source = resolve(self._model_id, self._cache_dir, self._telemetry)
        model, config = load_weights(source.path)
        executor = MlxExecutor(model, self._describe(source, model, config), self._chunk)
        _warm_up(executor)
        return LoadedModel(
            model_id=source.model_id,
            created=source.created,
            executor=executor,
            tokenizer=MlxTokenizer.load(source.path),
        )

    def _describe(
        self, source: ResolvedModel, model: Module, config: dict[str, object]
    ) -> Capabilities:
        # What is proven of a type is proven of models whose caches we understand.
        model_type = str(config.get("model_type"))
        spec = self._quantized(self._spec(source, model), source, model_type)
        batch = max_batch(model_type, self._batch_limit, config) if spec else 1
        if batch < self._batch_limit:
            self._telemetry.warning(
                "model_runs_alone",
                model=source.model_id,
                max_batch=batch,
                reason="batches of this model type are not proven right; answers wait in turn",
            )
        try:
            digests = digest_model(source.path, self._cache_dir)
        except OSError as error:
            raise ModelLoadError(f"{source.path} cannot be read: {error}") from error
        identity = CacheIdentity(
            weights=digests.weights,
            config=digests.config,
            tokenizer=digests.tokenizer,
            spec=spec,
            engine=f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}",
            backend=backend(),
            kv_bits=self._kv_bits,
        )
        return Capabilities(
            granularity=spec.granularity if spec else Granularity.NONE,
            spec=spec,
            namespace=identity.namespace,
            max_context=_max_context(config),
            vocab_size=vocab_size(model),
            max_batch=batch,
            weights_bytes=_weights_bytes(model),
        )

    def _spec(self, source: ResolvedModel, model: Module) -> ModelCacheSpec | None:
        """The model's caches; None, with a warning, if its KV must not be kept."""
        spec = probe(model)
        problems = contradictions(model, spec) if spec else ("a layer keeps something unknown",)
        if problems:
            self._telemetry.warning(
                "model_without_memory", model=source.model_id, reason="; ".join(problems)
            )
            return None
        return spec

    def _quantized(
        self, spec: ModelCacheSpec | None, source: ResolvedModel, model_type: str
    ) -> ModelCacheSpec | None:
        """The caches as they are kept.

        Raises:
            ModelLoadError: naming the model, if they cannot be kept in so few bits.
        """
        if self._kv_bits is None:
            return spec
        try:
            return in_bits(spec, self._kv_bits)
        except IncompatibleCacheError as error:
            raise ModelLoadError(
                f"{source.model_id} (model type {model_type}) cannot be served with"
                f' store.kv_bits = {self._kv_bits}: {error}; set store.kv_bits = "none"'
            ) from error


def _weights_bytes(model: Module) -> int:
    """What a step reads of the weights; of a mixture of experts less, but nobody knows which."""
    parameters: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[no-untyped-call, assignment]
    return sum(array.nbytes for _, array in parameters)


def load_weights(folder: Path) -> tuple[Module, dict[str, object]]:
    """A model folder's network in memory, in the precision that suits the device; its config.

    Raises:
        ModelLoadError: if its files cannot be used.
    """
    try:
        model, config = load_model(folder)
        if backend() == "cpu":
            model = _in_float32(model)
        mx.eval(model.parameters())
    except Exception as error:
        # mlx-lm raises whatever a missing key or an odd shape makes Python raise.
        raise ModelLoadError(f"{folder}: {error}") from error
    return model, config


def _warm_up(executor: MlxExecutor) -> None:
    """Run a few tokens, so that the first request does not wait for kernels to be made.

    Raises:
        ModelLoadError: if the model cannot run them.
    """
    sequence = SequenceId(0)
    try:
        executor.attach(sequence, (), (), SamplingParams(temperature=0))
        executor.run(StepPlan(prefill=PrefillChunk(sequence, (0, 0), last=True)))
        executor.run(StepPlan(decode=(sequence,)))
    except EngineError as error:
        raise ModelLoadError(f"the model failed on its first tokens: {error}") from error
    executor.release(sequence)


def vocab_size(model: Module) -> int:
    """Tokens that the model has logits for, which its configuration may not say."""
    # Nothing is computed: the shape is known before.
    return int(model(mx.zeros((1, 1), mx.int32)).shape[-1])


def backend() -> str:
    """The device that MLX computes on: metal, cuda or cpu."""
    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _in_float32(model: Module) -> Module:
    """Half types and quantised products run at 1-2 GFLOP/s on CPU, float32 at the BLAS's rate."""
    # Scales are widened first: dequantising computes in their type, and half would round again.
    return _widened(dequantize_model(_widened(model)))


def _widened(model: Module) -> Module:
    def widened(leaf: mx.array) -> mx.array:
        return leaf.astype(mx.float32) if mx.issubdtype(leaf.dtype, mx.floating) else leaf

    parameters = model.parameters()  # type: ignore[no-untyped-call]
    model.update(tree_map(widened, parameters))
    return model


def _max_context(config: dict[str, object]) -> int:
    text_config = config.get("text_config")
    for source in (config, text_config if isinstance(text_config, dict) else {}):
        limit = source.get("max_position_embeddings")
        if isinstance(limit, int) and limit > 0:
            return limit
    return _UNLIMITED_CONTEXT
