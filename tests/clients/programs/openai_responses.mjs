// OpenAI's SDK: two turns of Responses with a call, whole and streamed.
import OpenAI from "openai";
import { MODEL, QUESTION, RESULT, TOOL, URL, report } from "./weather.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "none", maxRetries: 0 });
const tools = [{ type: "function", strict: true, ...TOOL }];
const FORCED = { tool_choice: "required", parallel_tool_calls: false };

async function answered(streamed, more) {
  const body = { model: MODEL, tools, max_output_tokens: 64, temperature: 0, ...more };
  return streamed
    ? await client.responses.stream(body).finalResponse()
    : await client.responses.create(body);
}

for (const streamed of [false, true]) {
  const input = [{ role: "user", content: QUESTION }];
  const first = await answered(streamed, { input, ...FORCED, store: false });
  const call = first.output.find((item) => item.type === "function_call");
  input.push(...first.output);
  input.push({ type: "function_call_output", call_id: call.call_id, output: RESULT });
  const second = await answered(streamed, { input, tool_choice: "none", store: false });
  report({
    streamed,
    finish: first.status,
    name: call.name,
    arguments: JSON.parse(call.arguments),
    text: second.output_text,
    prompt: second.usage.input_tokens,
    cached: second.usage.input_tokens_details.cached_tokens,
  });
}
