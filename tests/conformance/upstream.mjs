// An MCP server on standard input and output with the tools that the conformance suite calls by name. Countersign stands
// before it as it would before any foreign server, so the suite sees these tools through the gate, or not at all.
import { createInterface } from "node:readline";

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

const NO_ARGUMENTS = { type: "object", properties: {}, additionalProperties: false };
const text = (value) => ({ type: "text", text: value });
const content = (...blocks) => ({ content: blocks });

const closed = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

let changes = 0;

const tools = {
  test_simple_text: {
    description: "Returns one text.",
    call: () => content(text("This is a simple text response for testing.")),
  },
  test_image_content: {
    description: "Returns one image.",
    call: () => content({ type: "image", data: PNG, mimeType: "image/png" }),
  },
  test_audio_content: {
    description: "Returns one sound.",
    call: () => content({ type: "audio", data: WAV, mimeType: "audio/wav" }),
  },
  test_embedded_resource: {
    description: "Returns one embedded resource.",
    call: () =>
      content({
        type: "resource",
        resource: {
          uri: "test://embedded-resource",
          mimeType: "text/plain",
          text: "This is an embedded resource content.",
        },
      }),
  },
  test_multiple_content_types: {
    description: "Returns a text, an image and a resource.",
    call: () =>
      content(
        text("Multiple content types test:"),
        { type: "image", data: PNG, mimeType: "image/png" },
        {
          type: "resource",
          resource: {
            uri: "test://mixed-content-resource",
            mimeType: "application/json",
            text: JSON.stringify({ test: "data", value: 123 }),
          },
        },
      ),
  },
  test_error_handling: {
    description: "Always fails.",
    call: () => ({ ...content(text("This tool intentionally returns an error for testing")), isError: true }),
  },
  test_tool_with_progress: {
    description: "Reports its progress three times.",
    call: (_, meta) => {
      for (const progress of [0, 50, 100]) {
        if (meta?.progressToken !== undefined)
          notify("notifications/progress", { progressToken: meta.progressToken, progress, total: 100 });
      }
      return content(text("Done."));
    },
  },
  test_logging_tool: {
    description: "Would log, if it were asked to.",
    call: () => content(text("Nothing logged.")),
  },
  test_streaming_elicitation: {
    description: "Answers without asking the client for anything.",
    call: () => content(text("Nothing asked.")),
  },
  test_input_required_result_elicitation: {
    description: "Needs a person in the policies of the gateway.",
    call: () => content(text("Performed.")),
  },
  test_input_required_result_tampered_state: {
    description: "Needs a person in the policies of the gateway.",
    call: () => content(text("Performed.")),
  },
  test_trigger_tool_change: {
    description: "Changes the definition of another tool.",
    call: () => {
      changes += 1;
      notify("notifications/tools/list_changed");
      return content(text("Changed."));
    },
  },
  test_changing_tool: {
    description: "Is redefined by test_trigger_tool_change, and so is offered and not offered in turn.",
    call: () => content(text("Still here.")),
  },
  greet: {
    description: "Greets.",
    inputSchema: closed({ name: { type: "string" } }),
    call: ({ name }) => content(text(`Hello, ${name}!`)),
  },
  slow_compute: {
    description: "Needs a person in the policies of the gateway, and so takes its time.",
    inputSchema: {
      ...closed({ seconds: { type: "number", minimum: 0 }, label: { type: "string" } }),
      required: ["seconds"],
    },
    call: ({ seconds }) => content(text(`Computed for ${seconds} s.`)),
  },
  failing_job: {
    description: "Needs a person in the policies of the gateway, and then fails.",
    call: () => ({ ...content(text("The job failed.")), isError: true }),
  },
  confirm_delete: {
    description: "Needs a person in the policies of the gateway.",
    inputSchema: { ...closed({ filename: { type: "string" } }), required: [] },
    call: () => content(text("Deleted.")),
  },
  json_schema_2020_12_tool: {
    description: "Tool with JSON Schema 2020-12 features",
    inputSchema: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      $defs: {
        address: {
          $anchor: "addressDef",
          type: "object",
          properties: { street: { type: "string" }, city: { type: "string" } },
        },
      },
      properties: {
        name: { type: "string" },
        address: { $ref: "#/$defs/address" },
        contactMethod: { type: "string", enum: ["phone", "email"] },
        phone: { type: "string" },
        email: { type: "string" },
      },
      allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
      if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
      then: { required: ["phone"] },
      else: { required: ["email"] },
      additionalProperties: false,
    },
    call: () => content(text("Accepted.")),
  },
  test_custom_header: {
    description: "Has an argument that clients repeat in a header.",
    inputSchema: {
      type: "object",
      properties: { region: { type: "string", "x-mcp-header": "Region" } },
      required: ["region"],
      additionalProperties: false,
    },
    call: ({ region }) => content(text(`Region ${region}.`)),
  },
};

const methods = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: { listChanged: true } },
    serverInfo: { name: "conformance-upstream", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({
    tools: Object.entries(tools).map(([name, { description, inputSchema = NO_ARGUMENTS }]) => ({
      name,
      description: name === "test_changing_tool" && changes % 2 === 1 ? "Redefined." : description,
      inputSchema,
    })),
  }),
  "tools/call": ({ name, arguments: args = {}, _meta }) => {
    if (!Object.hasOwn(tools, name)) throw { code: -32602, message: `unknown tool: ${name}` };
    return tools[name].call(args, _meta);
  },
};

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const notify = (method, params) => send({ method, params });

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params = {} } = JSON.parse(line);
  if (id === undefined || method === undefined) return;
  try {
    if (!Object.hasOwn(methods, method)) throw { code: -32601, message: "method not found" };
    send({ id, result: methods[method](params) });
  } catch (error) {
    send({ id, error: { code: error.code ?? -32603, message: error.message } });
  }
});
