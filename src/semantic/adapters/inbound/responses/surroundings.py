"""What every answer needs that is not in its request."""

from collections.abc import Callable
from dataclasses import dataclass

from semantic.adapters.inbound.limits import Limits
from semantic.application.response_history import ResponseHistory
from semantic.ports.clock import Clock
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Without `history` no response is kept."""

    inference: Inference
    telemetry: Telemetry
    clock: Clock
    limits: Limits
    new_id: Callable[[], str]
    history: ResponseHistory | None = None
