"""AutoGen's assistant with the tools of an MCP server."""

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import StreamableHttpServerParams, mcp_server_tools


async def main():
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    tools = await mcp_server_tools(StreamableHttpServerParams(url=os.environ["MCP_URL"], headers=headers))
    info = {"vision": False, "function_calling": True, "json_output": False, "family": "unknown", "structured_output": False}
    model = OpenAIChatCompletionClient(model="scripted", base_url=os.environ["MODEL_URL"], model_info=info)
    agent = AssistantAgent("assistant", model, tools=tools, max_tool_iterations=10)
    print((await agent.run(task="Delete the test invoices of customer 7.")).messages[-1].content)


asyncio.run(main())
