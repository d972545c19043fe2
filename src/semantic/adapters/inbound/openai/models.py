"""The models, in bodies that OpenAI's and Anthropic's SDKs both understand."""

from collections.abc import Sequence
from datetime import UTC, datetime

from semantic.domain.errors import ModelNotFoundError
from semantic.ports.inference import ModelInfo


def model_list(models: Sequence[ModelInfo]) -> dict[str, object]:
    """All models on one page."""
    return {
        "object": "list",
        "data": [_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].model_id if models else None,
        "last_id": models[-1].model_id if models else None,
    }


def one_model(models: Sequence[ModelInfo], model_id: str) -> dict[str, object]:
    """One of them.

    Raises:
        ModelNotFoundError: if it is not there.
    """
    for model in models:
        if model.answers_to(model_id):
            return _model(model)
    served = ", ".join(model.model_id for model in models)
    raise ModelNotFoundError(model_id, tried=(f"served: {served}",))


def _model(model: ModelInfo) -> dict[str, object]:
    created_at = datetime.fromtimestamp(model.created, UTC)
    return {
        "id": model.model_id,
        "object": "model",
        "created": model.created,
        "owned_by": "semantic",
        # What local servers call the size of the context.
        "max_model_len": model.max_context,
        "type": "model",
        "display_name": model.model_id,
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
    }
