"""A stand-in for a model: it follows a script, and keeps what the client gave it to read.

It speaks the wire forms that the clients use for real models (OpenAI's chat completions and responses, Anthropic's
messages) and a small one of its own for the plain SDKs, which have no model.
"""

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Longer than a client may be silent that gives up after five seconds, and shorter than it may be held with progress.
HELD_S = 6


@dataclass
class Step:
    title: str
    tool: str
    arguments: dict


@dataclass
class Read:
    text: str
    error: bool


class Conversation:
    """One client's run: what the model calls, in which order, and what it reads of each."""

    def __init__(self, approve):
        self._approve = approve
        self._lock = threading.Lock()
        self._held = None
        self.tools = []
        self.revision = None
        self.steps = []
        self.reads = {}
        self.over = False

    def next(self, answered, tools):
        """The step after the last one that was answered; none when all is done."""
        with self._lock:
            self.tools = tools or self.tools
            for step, read in answered.items():
                self.reads.setdefault(step, read)
            done = max(answered, default=-1)
            if done + 1 == len(self.steps):
                self._add(self.reads.get(done))
            if done + 1 == len(self.steps):
                self.over = True
                return None
            return done + 1, self.steps[done + 1]

    def _add(self, read):
        told = len(self.steps)
        if told == 0:
            self._say("allowed", "customer_invoices", {"customer": 7})
        elif told == 1:
            self._say("refused", "query_billing", {"sql": "delete from invoice where customer = 8"})
        elif told == 2:
            self._say("refused once more", "query_billing", {"sql": "delete from invoice where customer = 8 and is_test = 1"})
        elif told == 3:
            self._say("held", "delete_test_invoices", {"customer": 7, "countersign_reason": "clean up"})
            self._held = threading.Timer(HELD_S, self._approve)
            self._held.start()
        elif told == 4:
            self._held.cancel()
            if approval := waits_for(read):
                self._say("awaited, while nobody answers", "countersign_await", {"approval": approval})
        elif told == 5:
            if approval := waits_for(read):
                self._approve()
                self._say("awaited, once approved", "countersign_await", {"approval": approval})

    def _say(self, title, tool, arguments):
        self.steps.append(Step(title, tool, arguments))

    def golden(self):
        """What the model read, in a form that is the same in each run."""
        lines = [f"revision: {self.revision}"] if self.revision else []
        lines.append(f"tools: {', '.join(sorted(self.tools))}")
        for at, step in enumerate(self.steps):
            lines += ["", f"== {step.title}", f"-> {step.tool} {json.dumps(step.arguments)}"]
            read = self.reads.get(at)
            if read is None:
                lines.append("<- nothing: the run ended")
            else:
                lines.append(f"<- {'(as an error) ' if read.error else ''}{read.text}")
        if len(self.steps) == 4 and self.over:
            lines += ["", "A person approved while the call was held."]
        return normal("\n".join(lines) + "\n")


def waits_for(read):
    if read is None or "pending" not in read.text:
        return None
    found = re.search(r"apr-[0-9a-z]+", read.text)
    return found and found.group()


def normal(text):
    seen = {}

    def numbered(found):
        kind = found.group(1)
        known = seen.setdefault(kind, {})
        return f"{kind}-{known.setdefault(found.group(), len(known) + 1)}"

    text = re.sub(r"\b(apr|call|dec)-[0-9a-z]{8,}", numbered, text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)


def words(content):
    """The text of a content that is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = [part.get("text", json.dumps(part)) if isinstance(part, dict) else str(part) for part in content or []]
    return "\n".join(parts)


def serve(conversation):
    """The model on a free port of loopback; returns its server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.reply({})

        def do_GET(self):
            self.reply({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            path = self.path.split("?")[0]
            form = next((form for end, form in FORMS.items() if path.endswith(end)), None)
            if form is None:
                return self.reply({"error": {"message": f"no such path: {path}"}}, 404)
            form(self, body)

        def reply(self, value, status=200):
            self.send(json.dumps(value).encode(), "application/json", status)

        def stream(self, events):
            lines = [f"event: {name}\n" * bool(name) + f"data: {data}\n\n" for name, data in events]
            self.send("".join(lines).encode(), "text/event-stream")

        def send(self, body, kind, status=200):
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def raw(handler, body):
        answered = {int(at): Read(read["text"], read["error"]) for at, read in body["answered"].items()}
        conversation.revision = body["revision"]
        step = conversation.next(answered, body["tools"])
        handler.reply(step and {"at": step[0], "tool": step[1].tool, "arguments": step[1].arguments})

    def chat(handler, body):
        tools = [tool["function"]["name"] for tool in body.get("tools", [])]
        answered = {
            at(message["tool_call_id"]): Read(words(message["content"]), False)
            for message in body["messages"]
            if message["role"] == "tool"
        }
        step = conversation.next(answered, tools)
        message = {"role": "assistant", "content": "done" if step is None else None}
        if step:
            function = {"name": step[1].tool, "arguments": json.dumps(step[1].arguments)}
            message["tool_calls"] = [{"id": f"step{step[0]}", "type": "function", "function": function}]
        finish = "tool_calls" if step else "stop"
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        whole = {"id": "c", "created": 0, "model": "scripted", "usage": usage}
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": finish, "message": message}
            return handler.reply(whole | {"object": "chat.completion", "choices": [choice]})
        delta = message | {"tool_calls": [{"index": 0, **call} for call in message.get("tool_calls", [])]}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}], [{"index": 0, "delta": {}, "finish_reason": finish}]
        chunks = [json.dumps(whole | {"object": "chat.completion.chunk", "choices": choice}) for choice in choices]
        handler.stream([("", chunk) for chunk in [*chunks, "[DONE]"]])

    def responses(handler, body):
        tools = [tool["name"] for tool in body.get("tools", []) if tool["type"] == "function"]
        given = body["input"] if isinstance(body["input"], list) else []
        answered = {
            at(item["call_id"]): Read(words(item["output"]), False)
            for item in given
            if item.get("type") == "function_call_output"
        }
        step = conversation.next(answered, tools)
        if step:
            call = {"type": "function_call", "id": f"fc{step[0]}", "call_id": f"step{step[0]}", "status": "completed"}
            output = call | {"name": step[1].tool, "arguments": json.dumps(step[1].arguments)}
        else:
            text = {"type": "output_text", "text": "done", "annotations": []}
            output = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        handler.reply({
            "id": "r", "object": "response", "created_at": 0, "status": "completed", "model": "scripted",
            "output": [output], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "usage": usage,
        })

    def messages(handler, body):
        tools = [tool["name"] for tool in body.get("tools", []) if "countersign" in tool["name"]]
        blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        answered = {
            at(block["tool_use_id"]): Read(words(block.get("content")), block.get("is_error", False))
            for block in blocks
            if block["type"] == "tool_result"
        }
        # Without tools it is a request of the client's own, such as for a title.
        step = conversation.next(answered, [name.split("__")[-1] for name in tools]) if tools else None
        content = {"type": "text", "text": "done"}
        if step:
            name = next((name for name in tools if name.endswith(f"__{step[1].tool}")), step[1].tool)
            content = {"type": "tool_use", "id": f"step{step[0]}", "name": name, "input": step[1].arguments}
        reason = "tool_use" if step else "end_turn"
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "msg", "type": "message", "role": "assistant", "model": body.get("model", "scripted"), "usage": usage}
        if not body.get("stream"):
            return handler.reply(message | {"content": [content], "stop_reason": reason, "stop_sequence": None})
        if step:
            empty, delta = content | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(content["input"])}
        else:
            empty, delta = content | {"text": ""}, {"type": "text_delta", "text": content["text"]}
        events = [
            {"type": "message_start", "message": message | {"content": [], "stop_reason": None, "stop_sequence": None}},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
        handler.stream([(event["type"], json.dumps(event)) for event in events])

    def count_tokens(handler, _body):
        handler.reply({"input_tokens": 1})

    def at(call_id):
        return int(re.search(r"step(\d+)", call_id).group(1))

    FORMS = {
        "/raw": raw,
        "/chat/completions": chat,
        "/responses": responses,
        "/messages/count_tokens": count_tokens,
        "/messages": messages,
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
