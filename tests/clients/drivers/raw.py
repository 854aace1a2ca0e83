"""The loop of an agent whose model is the stand-in, for clients that bring none."""

import json
import os
import urllib.request


def following(tools, revision):
    """The model's calls one after the other: receives (text, whether it is an error) of each."""
    answered = {}
    while step := ask({"tools": tools, "revision": revision, "answered": answered}):
        text, error = yield step["tool"], step["arguments"]
        answered[step["at"]] = {"text": text, "error": error}


def ask(body):
    request = urllib.request.Request(
        os.environ["MODEL_URL"] + "/raw", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


async def converse(tools, revision, call):
    """Calls what the model says until it is done."""
    model = following(tools, revision)
    step = next(model, None)
    while step:
        read = await call(*step)
        try:
            step = model.send(read)
        except StopIteration:
            return


def text(content):
    return "\n".join(part.text for part in content)
