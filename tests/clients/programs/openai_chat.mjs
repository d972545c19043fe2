// OpenAI's SDK: two turns of Chat Completions with a call, whole and streamed.
import OpenAI from "openai";
import { MODEL, QUESTION, RESULT, TOOL, URL, report } from "./weather.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none", maxRetries: 0 });
const tools = [{ type: "function", function: TOOL }];
const FORCED = { tool_choice: "required", parallel_tool_calls: false };

async function answered(streamed, more) {
  const body = { model: MODEL, tools, max_tokens: 64, temperature: 0, ...more };
  const completion = streamed
    ? await client.chat.completions
        .stream({ ...body, stream_options: { include_usage: true } })
        .finalChatCompletion()
    : await client.chat.completions.create(body);
  return completion;
}

for (const streamed of [false, true]) {
  const messages = [{ role: "user", content: QUESTION }];
  const first = await answered(streamed, { messages, ...FORCED });
  const [call] = first.choices[0].message.tool_calls;
  messages.push(first.choices[0].message);
  messages.push({ role: "tool", tool_call_id: call.id, content: RESULT });
  const second = await answered(streamed, { messages, tool_choice: "none" });
  report({
    streamed,
    finish: first.choices[0].finish_reason,
    name: call.function.name,
    arguments: JSON.parse(call.function.arguments),
    text: second.choices[0].message.content,
    prompt: second.usage.prompt_tokens,
    cached: second.usage.prompt_tokens_details.cached_tokens,
  });
}
