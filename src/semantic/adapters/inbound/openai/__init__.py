"""OpenAI's API."""

from semantic.adapters.inbound.openai.router import openai_router

__all__ = ["openai_router"]
