// Adds the agent's key to every request of the suite, which has no option for a header, and says with each call that
// the client goes through rounds of it, which is what the suite's scenarios for them are about:
//   node --import ./authorize.mjs SUITE server --url URL      (the key is in COUNTERSIGN_TEST_AGENT_KEY)
import http from "node:http";
import { createRequire } from "node:module";

const key = process.env.COUNTERSIGN_TEST_AGENT_KEY;
if (!key) throw new Error("COUNTERSIGN_TEST_AGENT_KEY is not set");

// The suite's own undici, whose dispatcher Node's `fetch` uses as well.
const { Agent, setGlobalDispatcher } = createRequire(process.argv[1])("undici");

const addKey = (dispatch) => (options, handler) => {
  const { headers = {} } = options;
  const authorized = Array.isArray(headers)
    ? [...headers, "authorization", `Bearer ${key}`]
    : { ...headers, authorization: `Bearer ${key}` };
  return dispatch({ ...options, headers: authorized }, handler);
};

setGlobalDispatcher(new Agent().compose(addKey));

const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
  if (typeof init?.body !== "string") return fetch(input, init);
  return fetch(input, { ...init, body: withRounds(init.body) });
};

function withRounds(body) {
  let message;
  try {
    message = JSON.parse(body);
  } catch {
    return body; // bad on purpose
  }
  if (message?.method !== "tools/call" || typeof message.params?._meta !== "object") return body;
  message.params._meta["countersign/rounds"] = true;
  return JSON.stringify(message);
}

// Where the suite writes headers that `fetch` would not, it uses Node's own client.
const { addRequest } = http.Agent.prototype;
http.Agent.prototype.addRequest = function (request, ...rest) {
  request.setHeader("authorization", `Bearer ${key}`);
  return addRequest.call(this, request, ...rest);
};
