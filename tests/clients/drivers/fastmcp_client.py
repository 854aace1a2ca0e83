"""FastMCP's client, which asks for progress of every call."""

import asyncio
import os

from fastmcp import Client

import raw


async def main():
    async with Client(os.environ["MCP_URL"], auth=os.environ["MCP_KEY"]) as client:

        async def call(tool, arguments):
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            return raw.text(result.content), result.is_error

        await raw.converse([tool.name for tool in await client.list_tools()], client.protocol_version, call)


asyncio.run(main())
