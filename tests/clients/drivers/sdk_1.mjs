// The TypeScript SDK, version 1.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { converse } from "./raw.mjs";

const installed = createRequire(`${process.env.NODE_TOOLS}/package.json`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");

const client = new Client({ name: "test", version: "1" });
const headers = { authorization: `Bearer ${process.env.MCP_KEY}` };
const transport = new StreamableHTTPClientTransport(new URL(process.env.MCP_URL), { requestInit: { headers } });
await client.connect(transport);
const { tools } = await client.listTools();
await converse(tools.map((tool) => tool.name), transport.protocolVersion, (call) => client.callTool(call));
await client.close();
