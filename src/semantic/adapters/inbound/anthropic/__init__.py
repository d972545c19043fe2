"""Anthropic's Messages API, to and from the domain's values."""

from semantic.adapters.inbound.anthropic.errors import error_response, speaks_anthropic
from semantic.adapters.inbound.anthropic.router import anthropic_router

__all__ = ["anthropic_router", "error_response", "speaks_anthropic"]
