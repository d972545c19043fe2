"""OpenAI's Responses API."""

from semantic.adapters.inbound.responses.router import responses_router
from semantic.adapters.inbound.responses.surroundings import Surroundings

__all__ = ["Surroundings", "responses_router"]
