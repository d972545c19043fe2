"""OpenAI's Agents SDK on both of OpenAI's APIs, whole and streamed."""

import asyncio

from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from weather import MODEL, QUESTION, URL, get_weather, report

CLIENT = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
MODELS: tuple[Model, ...] = (
    OpenAIChatCompletionsModel(MODEL, CLIENT),
    OpenAIResponsesModel(MODEL, CLIENT),
)


async def main() -> None:
    """Ask both of them."""
    set_tracing_disabled(disabled=True)
    for model in MODELS:
        agent = Agent(name="weather", tools=[function_tool(get_weather)], model=model)
        report((await Runner.run(agent, QUESTION)).final_output)
        streamed = Runner.run_streamed(agent, QUESTION)
        async for _ in streamed.stream_events():
            pass
        report(streamed.final_output)


asyncio.run(main())
