// Anthropic's SDK: two turns of Messages with a call, whole and streamed.
import Anthropic from "@anthropic-ai/sdk";
import { MODEL, QUESTION, RESULT, TOOL, URL, report } from "./weather.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: "none", maxRetries: 0 });
const { parameters, ...named } = TOOL;
const tools = [{ ...named, input_schema: parameters }];
const FORCED = { type: "any", disable_parallel_tool_use: true };

async function answered(streamed, more) {
  const body = { model: MODEL, tools, max_tokens: 64, temperature: 0, ...more };
  return streamed
    ? await client.messages.stream(body).finalMessage()
    : await client.messages.create(body);
}

for (const streamed of [false, true]) {
  const messages = [{ role: "user", content: QUESTION }];
  const first = await answered(streamed, { messages, tool_choice: FORCED });
  const call = first.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: call.id, content: RESULT };
  messages.push({ role: "assistant", content: first.content });
  messages.push({ role: "user", content: [result] });
  const second = await answered(streamed, { messages, tool_choice: { type: "none" } });
  const counted = await client.messages.countTokens({
    model: MODEL,
    messages,
    tools,
    tool_choice: { type: "none" },
  });
  const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens } = second.usage;
  report({
    streamed,
    finish: first.stop_reason,
    name: call.name,
    arguments: call.input,
    text: second.content.map((block) => block.text ?? "").join(""),
    prompt: input_tokens + cache_read_input_tokens + cache_creation_input_tokens,
    cached: cache_read_input_tokens,
    counted: counted.input_tokens,
  });
}
