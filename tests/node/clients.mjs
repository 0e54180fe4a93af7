// The vendors' Node SDKs through the gateway, while the first vendor dies: the right answer, and no error.
//
// Usage: node clients.mjs BASE_URL FAULT...   The packages are in $HOLDFAST_NODE; texts carry their own checksum.

import { createRequire } from "node:module";
import { crc32 } from "node:zlib";

const require = createRequire(`${process.env.HOLDFAST_NODE}/`);
const OpenAI = require("openai").default;
const Anthropic = require("@anthropic-ai/sdk").default;

const [base, ...faults] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "sk-test", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: base, apiKey: "sk-test", maxRetries: 0 });
const schema = {
  type: "object",
  properties: { note: { type: "string" }, count: { type: "integer" } },
  required: ["note", "count"],
};
const WORDS = 60;

function check(condition, what) {
  if (!condition) throw new Error(what);
}

function sealed(text) {
  const at = text.lastIndexOf(" #sum:");
  return at > 0 && text.slice(at + 6) === crc32(text.slice(0, at)).toString(16).padStart(8, "0");
}

function question(seed, tools) {
  const content = `Please answer. [[seed:${seed} words:${WORDS}]]${tools ? " [[tools:2]]" : ""}`;
  return [{ role: "user", content }];
}

function checkTools(calls) {
  check(calls.length === 2, `${calls.length} tool calls instead of 2`);
  for (const call of calls) {
    check(call.name === "record" && sealed(call.input.note), `tool arguments that are not whole: ${JSON.stringify(call)}`);
  }
}

async function askOpenai({ model, stream, tools, headers, seed }) {
  const body = { model, messages: question(seed, tools), max_completion_tokens: 4000 };
  if (tools) body.tools = [{ type: "function", function: { name: "record", parameters: schema } }];
  const answer = stream
    ? await openai.chat.completions.stream(body, { headers }).finalChatCompletion()
    : await openai.chat.completions.create(body, { headers });
  const { message, finish_reason } = answer.choices[0];
  check(finish_reason === (tools ? "tool_calls" : "stop"), `finish_reason ${finish_reason}`);
  if (tools) checkTools(message.tool_calls.map((call) => ({ name: call.function.name, input: JSON.parse(call.function.arguments) })));
  else check(sealed(message.content), `text that is not whole: ${message.content}`);
}

async function askAnthropic({ model, stream, tools, headers, seed }) {
  const body = { model, messages: question(seed, tools), max_tokens: 4000 };
  if (tools) body.tools = [{ name: "record", input_schema: schema }];
  const answer = stream ? await anthropic.messages.stream(body, { headers }).finalMessage() : await anthropic.messages.create(body, { headers });
  check(answer.stop_reason === (tools ? "tool_use" : "end_turn"), `stop_reason ${answer.stop_reason}`);
  if (tools) checkTools(answer.content.filter((block) => block.type === "tool_use"));
  else check(sealed(answer.content.map((block) => block.text ?? "").join("")), "text that is not whole");
}

let passed = 0;
let failed = 0;
let seed = 0;
const runs = [];
for (const fault of faults) {
  for (const vendor of ["openai", "anthropic"]) {
    for (const [name, ask] of [["openai", askOpenai], ["anthropic", askAnthropic]]) {
      for (const [mode, stream, delivery] of [["plain", false], ["whole stream", true, "whole"], ["guarded stream", true, "guarded"]]) {
        for (const tools of [false, true]) {
          const headers = delivery ? { "Holdfast-Delivery": delivery } : {};
          const title = `${name} sdk, ${vendor} vendor dies by ${fault}, ${mode}, ${tools ? "tools" : "text"}`;
          const request = { model: `two/${vendor}/${fault}`, stream, tools, headers, seed: ++seed };
          runs.push(
            ask(request).then(
              () => (passed += 1),
              (error) => {
                failed += 1;
                console.log(`FAILED ${title}: ${error?.constructor?.name}: ${error?.message}`);
              },
            ),
          );
        }
      }
    }
  }
}
await Promise.all(runs);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
