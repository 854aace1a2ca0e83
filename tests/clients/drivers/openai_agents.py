"""OpenAI Agents SDK with its own defaults: a session timeout of five seconds, and the Responses API."""

import asyncio
import os

from agents import Agent, OpenAIResponsesModel, Runner
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI


async def main():
    params = {"url": os.environ["MCP_URL"], "headers": {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}}
    model = OpenAIResponsesModel("scripted", AsyncOpenAI(base_url=os.environ["MODEL_URL"]))
    async with MCPServerStreamableHttp(params) as server:
        agent = Agent(name="assistant", model=model, mcp_servers=[server])
        print((await Runner.run(agent, "Delete the test invoices of customer 7.")).final_output)


asyncio.run(main())
