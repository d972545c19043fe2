"""Pydantic AI's agent on three APIs, whole and streamed."""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from weather import MODEL, QUESTION, URL, get_weather, report

OPENAI = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
MODELS: tuple[Model, ...] = (
    OpenAIChatModel(MODEL, provider=OPENAI),
    OpenAIResponsesModel(MODEL, provider=OPENAI),
    AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key="none")),
)


async def main() -> None:
    """Ask all of them."""
    for model in MODELS:
        agent = Agent(model, tools=[get_weather])
        report((await agent.run(QUESTION)).output)
        async with agent.run_stream(QUESTION) as answer:
            report(await answer.get_output())


asyncio.run(main())
