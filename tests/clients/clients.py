"""Runs each client against a Countersign of its own, and compares what its model read with the golden file."""

import argparse
import contextlib
import difflib
import json
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import model

HERE = pathlib.Path(__file__).resolve().parent
# What a run may take, its start on a busy machine included.
PATIENCE_S = 240


class Client:
    """A client: the environment it is installed in, its driver with settings, the settings of the server, and with what
    the program ends."""

    def __init__(self, place, driver, settings={}, server="", code=0):
        self.place, self.driver, self.settings, self.server, self.code = place, driver, settings, server, code

    def command(self, tools, world):
        if self.driver == "claude":
            return claude(tools, world)
        driver = HERE / "drivers" / self.driver
        if self.place == "node":
            return [os.environ.get("COUNTERSIGN_TEST_NODE", "node"), driver]
        return [tools / self.place / "bin" / "python", driver]


CLIENTS = {
    "mcp-1": Client("mcp-1", "mcp_1.py"),
    "mcp-2": Client("mcp-2", "mcp_2.py"),
    "openai-agents-mcp-1": Client("mcp-1", "openai_agents.py"),
    "openai-agents-mcp-2": Client("mcp-2", "openai_agents.py"),
    "langgraph": Client("mcp-1", "langgraph_agent.py"),
    "fastmcp": Client("mcp-2", "fastmcp_client.py"),
    # By its default, the second refusal of one tool ends the run.
    "pydantic-ai-default": Client("mcp-2", "pydantic_ai_agent.py", code=1),
    "pydantic-ai-failed": Client("mcp-2", "pydantic_ai_agent.py", {"TOOL_ERROR_BEHAVIOR": "failed"}),
    "pydantic-ai-text": Client("mcp-2", "pydantic_ai_agent.py", server='refusals = "text"'),
    "autogen": Client("mcp-1", "autogen_agent.py"),
    "llama-index": Client("llama-index", "llama_index_agent.py"),
    "typescript-sdk-1": Client("node", "sdk_1.mjs"),
    "typescript-client-2": Client("node", "client_2.mjs"),
    "claude-code": Client("node", "claude"),
}


class World:
    """A folder as `countersign init` makes it, and the server over it."""

    def __init__(self, tools, binary, folder, settings):
        self.tools, self.binary, self.folder = tools, binary, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.run("init", folder)
        # More of one customer's than the default policies let anybody delete at once.
        with contextlib.closing(sqlite3.connect(folder / "billing.db")) as billing, billing:
            rows = [(1000 + n, 8, 100, "EUR", "2026-01-01", 1) for n in range(600)]
            billing.executemany("insert into invoice values (?, ?, ?, ?, ?, ?)", rows)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        config = folder / "countersign.toml"
        text = config.read_text()
        listen = 'listen = "127.0.0.1:7780"'
        assert text.count(listen) == 1
        config.write_text(text.replace(listen, f'listen = "127.0.0.1:{self.port}"\n{settings}'))
        log = open(folder / "server.log", "wb")
        self.server = subprocess.Popen(
            [binary, "serve", folder, "--print-url"], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True
        )
        if not self.server.stdout.readline():
            raise RuntimeError(f"the server did not start:\n{(folder / 'server.log').read_text()}")

    def run(self, *arguments):
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"countersign {arguments}: {done.stderr}")
        return done.stdout

    def key(self, name):
        return (self.folder / "keys" / f"{name}.key").read_text().strip()

    def approve(self):
        """What the person does: sees the one request and approves it, by the command line."""
        person = ["-C", self.folder, "--key-file", self.folder / "keys" / "alice.key"]
        waiting = json.loads(self.run("approvals", "list", "--json", *person))
        [request] = waiting["approvals"] if isinstance(waiting, dict) else waiting
        self.run("approvals", "approve", request["approval"], *person)

    def environment(self, model_url):
        # Nothing but loopback can be reached, and no settings of whoever runs this are read.
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(home),
            "MCP_URL": f"http://127.0.0.1:{self.port}/mcp",
            "MCP_KEY": self.key("assistant"),
            "MODEL_URL": model_url,
            "NODE_TOOLS": str(self.tools / "node"),
            "OPENAI_API_KEY": "none",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def stop(self):
        self.server.terminate()
        self.server.wait()


def claude(tools, world):
    config = world.folder / "mcp.json"
    server = {
        "type": "http",
        "url": f"http://127.0.0.1:{world.port}/mcp",
        "headers": {"Authorization": f"Bearer {world.key('assistant')}"},
    }
    config.write_text(json.dumps({"mcpServers": {"countersign": server}}))
    program = tools / "node" / "node_modules" / ".bin" / "claude"
    return [
        "env", "ANTHROPIC_API_KEY=none", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "ENABLE_TOOL_SEARCH=false",
        "DISABLE_AUTOUPDATER=1", f"ANTHROPIC_BASE_URL={world.model_url.removesuffix('/v1')}",
        program, "-p", "Delete the test invoices of customer 7.", "--mcp-config", config, "--strict-mcp-config",
        "--allowedTools", "mcp__countersign", "--model", "scripted", "--output-format", "json",
    ]  # fmt: skip


def run(name, tools, binary, folder):
    """One client's run; returns what its model read, and what the client itself wrote."""
    client = CLIENTS[name]
    world = World(tools, binary, folder / name, client.server)
    conversation = model.Conversation(world.approve)
    stand_in = model.serve(conversation)
    try:
        world.model_url = f"http://127.0.0.1:{stand_in.server_port}/v1"
        done = subprocess.run(
            client.command(tools, world),
            env=world.environment(world.model_url) | client.settings,
            cwd=world.folder / "home",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        return conversation.golden(), done.returncode, done.stdout
    finally:
        stand_in.shutdown()
        world.stop()


def judge(name, read, update):
    """What is wrong with what a model read; nothing if it is what the golden file says."""
    golden = HERE / "golden" / f"{name}.txt"
    if update:
        golden.write_text(read)
    known = golden.read_text() if golden.exists() else ""
    return "".join(difflib.unified_diff(known.splitlines(True), read.splitlines(True), str(golden.name), "read now"))


def undocumented():
    """What docs/clients.md says otherwise than it was run: golden files and versions."""
    text = (HERE / "../../docs/clients.md").read_text()
    linked = set(re.findall(r"clients/golden/([\w-]+)\.txt", text))
    bad = [f"docs/clients.md: the golden file of `{name}` is not both there and run" for name in linked ^ set(CLIENTS)]
    npm = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
    pinned = set(npm.items())
    for lock in (HERE / "locks").glob("*.in"):
        pinned |= {tuple(re.sub(r"(-slim)?(\[.*\])?==", " ", line).split()) for line in lock.read_text().splitlines()}
    for row in (line for line in text.splitlines() if line.startswith("| `")):
        name, version = re.match(r"\| `([^`\[]+)[^|]*\| ([\w.]+)", row).groups()
        if (name, version) not in pinned:
            bad.append(f"docs/clients.md: `{name}` was not run in version {version}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)}; all if none is named")
    parser.add_argument("--update", action="store_true", help="write the golden files anew")
    parser.add_argument("--binary", required=True, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--tools", required=True, type=pathlib.Path)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in CLIENTS]:
        parser.error(f"no such client: {', '.join(unknown)}")

    def one(name):
        began = time.monotonic()
        try:
            read, code, wrote = run(name, given.tools, given.binary, given.folder)
            bad = judge(name, read, given.update)
            if code != CLIENTS[name].code:
                bad += f"\nthe client ended with {code}:\n{wrote[-4000:]}"
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as why:
            bad = f"{why}\n{getattr(why, 'output', None) or ''}"
        print(f"{name:24} {'FAILED' if bad else 'ok':8} {time.monotonic() - began:4.0f} s", flush=True)
        return name, bad

    if bad := undocumented():
        sys.exit("\n".join(bad))
    # They mostly wait for people.
    with ThreadPoolExecutor(4) as pool:
        failed = [(name, bad) for name, bad in pool.map(one, given.names or CLIENTS) if bad]
    for name, bad in failed:
        print(f"\n--- {name}\n{bad}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
