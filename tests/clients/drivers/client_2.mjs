// The TypeScript SDK, version 2 (`@modelcontextprotocol/client`), told to look for the newest revision.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { converse } from "./raw.mjs";

const installed = createRequire(`${process.env.NODE_TOOLS}/package.json`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");

const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
const headers = { authorization: `Bearer ${process.env.MCP_KEY}` };
const transport = new StreamableHTTPClientTransport(new URL(process.env.MCP_URL), { requestInit: { headers } });
await client.connect(transport);
const { tools } = await client.listTools();
await converse(tools.map((tool) => tool.name), client.getNegotiatedProtocolVersion(), (call) => client.callTool(call));
await client.close();
