"""Pydantic AI; what it does with a tool's error is its own setting, and its default ends a run at the second one."""

import asyncio
import os

from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main():
    given = {"headers": {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}}
    if behavior := os.environ.get("TOOL_ERROR_BEHAVIOR"):
        given["tool_error_behavior"] = behavior
    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=os.environ["MODEL_URL"]))
    async with Agent(model, toolsets=[MCPToolset(os.environ["MCP_URL"], **given)]) as agent:
        print((await agent.run("Delete the test invoices of customer 7.")).output)


asyncio.run(main())
