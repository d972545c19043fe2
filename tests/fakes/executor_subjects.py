"""The executors that the contract is tried on: one for each way in which layers remember."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.base import Module
from tests.fakes import random_models
from tests.fakes.model_families import FAMILIES, with_window
from tests.fakes.scripted_executor import SPECS, ScriptedExecutor

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.ports.model_executor import Capabilities, ModelExecutor

CONFIGS: Final[Mapping[str, Mapping[str, Any]]] = {  # few layers: thousands of steps are taken
    "llama": FAMILIES["llama"],
    "gemma3_text": {
        **FAMILIES["gemma3_text"],
        "num_hidden_layers": 2,
        "sliding_window_pattern": 2,
    },
    # Longer than a block: what it sees lies in up to three of them.
    "gpt_oss": {
        **with_window(FAMILIES["gpt_oss"], 300),
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "deepseek_v3": FAMILIES["deepseek_v3"],
    "qwen3_next": {
        **FAMILIES["qwen3_next"],
        "num_hidden_layers": 2,
        "full_attention_interval": 2,
    },
    "mamba2": FAMILIES["mamba2"],
    # Layers that keep two caches each.
    "deepseek_v32": FAMILIES["deepseek_v32"],
    "falcon_h1": FAMILIES["falcon_h1"],
}


@dataclass(frozen=True, slots=True)
class Subject:
    """An executor, and how to make its next run fail."""

    executor: ModelExecutor
    break_next_run: Callable[[], None]


class FailingLayer(Module):
    """The last layer of a model, raising when told to: the layers before have run by then."""

    armed: bool = False

    def __init__(self, layer: Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx is untyped here
        self["layer"] = layer

    def __getattr__(self, name: str) -> Any:
        """What models ask their layers for, as whether they are recurrent."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self["layer"], name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self.armed:
            self.armed = False
            raise RuntimeError("out of memory")
        return self["layer"](*args, **kwargs)


@cache
def _network(name: str, dtype: mx.Dtype) -> tuple[Module, FailingLayer, Capabilities]:
    """A network and what it can do; made once, since nothing changes its weights."""
    model = random_models.make_model(CONFIGS[name], dtype=dtype)
    if name == "mamba2":
        for layer in model.layers:  # with weights as drawn, it forgets within three tokens
            layer.mixer.A_log -= 1
            layer.mixer.dt_bias -= 3
    capabilities = random_models.capabilities(model)
    body = model.backbone if hasattr(model, "backbone") else model.model
    last = FailingLayer(body.layers[-1])
    body.layers[-1] = last
    return model, last, capabilities


def mlx_subject(name: str, dtype: mx.Dtype = mx.float32) -> Subject:
    """A model of `CONFIGS`."""
    model, last, capabilities = _network(name, dtype)
    return Subject(MlxExecutor(model, capabilities), lambda: setattr(last, "armed", True))


def scripted_subject(spec: ModelCacheSpec) -> Subject:
    """A script that plays such layers."""
    executor = ScriptedExecutor(spec)
    return Subject(executor, lambda: setattr(executor, "fail_on_run", len(executor.plans) + 1))


Maker = Callable[[], Subject]

SCRIPTED: Final[Mapping[str, Maker]] = {
    f"scripted-{name.replace(' ', '-')}": partial(scripted_subject, SPECS[name])
    for name in ("uniform", "two windows", "hybrid", "recurrent", "everything")
}
NESTED: Final = ("deepseek_v32", "falcon_h1")
IN_FLOAT32: Final[Mapping[str, Maker]] = {
    **SCRIPTED,
    **{name: partial(mlx_subject, name) for name in CONFIGS if name not in NESTED},
}
ALL: Final[Mapping[str, Maker]] = {
    **IN_FLOAT32,
    **{
        f"{name}-bfloat16": partial(mlx_subject, name, mx.bfloat16)
        for name in ("llama", "gemma3_text", "qwen3_next")
    },
}
