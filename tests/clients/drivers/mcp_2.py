"""The Python SDK, version 2, in the newest revision: a client whose requests time out after five seconds."""

import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import raw


async def main():
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {os.environ['MCP_KEY']}"}, timeout=60) as http:
        transport = streamable_http_client(os.environ["MCP_URL"], http_client=http)
        async with Client(transport, read_timeout_seconds=5) as client:

            async def call(tool, arguments):
                result = await client.call_tool(tool, arguments)
                return raw.text(result.content), bool(result.is_error)

            await raw.converse([tool.name for tool in (await client.list_tools()).tools], client.protocol_version, call)


asyncio.run(main())
