"""LangChain's agent on both vendors' chat models, whole and streamed."""

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from weather import MODEL, QUESTION, URL, get_weather, report

MODELS: tuple[BaseChatModel, ...] = (
    ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key="none", max_retries=0),
    ChatOpenAI(
        model=MODEL, base_url=f"{URL}/v1", api_key="none", max_retries=0, use_responses_api=True
    ),
    ChatAnthropic(model=MODEL, base_url=URL, api_key="none", max_retries=0, max_tokens=256),
)

for model in MODELS:
    agent = create_agent(model, [tool(get_weather)])
    asked = {"messages": [{"role": "user", "content": QUESTION}]}
    report(agent.invoke(asked)["messages"][-1].text)
    *_, last = agent.stream(asked, stream_mode="values")
    report(last["messages"][-1].text)
