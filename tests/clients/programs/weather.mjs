// What all programs ask: where the server is, the model's name, a question and a tool.
export const [URL, MODEL] = process.argv.slice(2);
export const QUESTION = "What will the weather be like in Paris tomorrow?";
export const RESULT = "Sunny, 21 degrees.";
export const TOOL = {
  name: "get_weather",
  description: "The weather of a city on one of the next days.",
  parameters: {
    type: "object",
    properties: {
      city: { type: "string", enum: ["Paris", "London", "Rome"] },
      days: { type: "integer", minimum: 1, maximum: 7 },
    },
    required: ["city", "days"],
    additionalProperties: false,
  },
};

export function report(found) {
  console.log(JSON.stringify(found));
}
