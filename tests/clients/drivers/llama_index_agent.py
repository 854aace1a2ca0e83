"""LlamaIndex's agent with the tools of an MCP server."""

import asyncio
import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def main():
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    tools = await McpToolSpec(BasicMCPClient(os.environ["MCP_URL"], headers=headers)).to_tool_list_async()
    model = OpenAILike(
        model="scripted", api_base=os.environ["MODEL_URL"], api_key="none", is_chat_model=True, is_function_calling_model=True
    )
    print(await FunctionAgent(tools=tools, llm=model).run("Delete the test invoices of customer 7."))


asyncio.run(main())
