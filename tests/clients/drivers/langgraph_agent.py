"""LangChain's MCP adapters under an agent of LangGraph."""

import asyncio
import os

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI


async def main():
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    server = {"transport": "streamable_http", "url": os.environ["MCP_URL"], "headers": headers}
    tools = await MultiServerMCPClient({"countersign": server}).get_tools()
    model = ChatOpenAI(model="scripted", base_url=os.environ["MODEL_URL"])
    said = {"messages": [{"role": "user", "content": "Delete the test invoices of customer 7."}]}
    print((await create_agent(model, tools).ainvoke(said))["messages"][-1].content)


asyncio.run(main())
