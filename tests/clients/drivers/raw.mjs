// The loop of an agent whose model is the stand-in, for clients that bring none.

export async function converse(tools, revision, call) {
  const answered = {};
  for (;;) {
    const body = JSON.stringify({ tools, revision, answered });
    const answer = await fetch(`${process.env.MODEL_URL}/raw`, { method: "POST", body });
    const step = await answer.json();
    if (!step) return;
    const result = await call({ name: step.tool, arguments: step.arguments });
    const text = result.content.map((part) => part.text).join("\n");
    answered[step.at] = { text, error: result.isError ?? false };
  }
}
