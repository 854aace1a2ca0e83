"""The Python SDK, version 1: a session whose requests time out after five seconds."""

import asyncio
import datetime
import os

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

import raw


async def main():
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    async with streamablehttp_client(os.environ["MCP_URL"], headers=headers) as (read, write, _):
        async with ClientSession(read, write, read_timeout_seconds=datetime.timedelta(seconds=5)) as session:
            revision = (await session.initialize()).protocolVersion

            async def call(tool, arguments):
                result = await session.call_tool(tool, arguments)
                return raw.text(result.content), bool(result.isError)

            await raw.converse([tool.name for tool in (await session.list_tools()).tools], revision, call)


asyncio.run(main())
