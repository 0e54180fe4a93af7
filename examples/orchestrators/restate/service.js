// The workflow as a Restate service.
//
//   npx restate-server &  node service.js &
//   curl localhost:9070/deployments --json '{"uri": "http://localhost:9080"}'
//   node start.js invoice-1042
//
// Restate runs a `ctx.run` block again when its process died inside of it. What the block did then happens twice,
// unless it is told which run and step it belongs to: then it gets what the first time brought.

import * as restate from "@restatedev/restate-sdk";

const HOLDFAST = process.env.HOLDFAST_URL ?? "http://127.0.0.1:4000";

// A JSON call of Holdfast. What may pass (a vendor's or the gateway's bad hour) is thrown, and Restate comes again;
// what will not is the workflow's end.
async function holdfast(run, step, method, path, body, key) {
  const headers = { "content-type": "application/json", "holdfast-run": run, "holdfast-step": step };
  if (key) headers["idempotency-key"] = key;
  const response = await fetch(HOLDFAST + path, { method, headers, body: body && JSON.stringify(body) });
  const told = await response.json();
  if (response.ok) return { told, exchange: response.headers.get("holdfast-exchange") };
  const message = `${method} ${path}: ${response.status}: ${told.error?.message}`;
  if (response.headers.get("x-should-retry") === "false") throw new restate.TerminalError(message);
  throw new Error(message);
}

const reminder = restate.workflow({
  name: "reminder",
  handlers: {
    run: async (ctx) => {
      const run = ctx.key;

      const { mail, exchange } = await ctx.run("draft", async () => {
        const question = `Write a friendly reminder for ${run} as JSON: {"subject", "text"}.`;
        const body = { model: "reminder", messages: [{ role: "user", content: question }] };
        const { told, exchange } = await holdfast(run, "draft", "POST", "/v1/chat/completions", body);
        return { mail: JSON.parse(told.choices[0].message.content), exchange };
      });

      const choice = await ctx.run("approve", async () => {
        const body = { question: `Send "${mail.subject}"?`, context: mail };
        let { told } = await holdfast(run, "approve", "POST", "/v1/approvals", body, `${run}/approve`);
        while (told.state === "open") ({ told } = await holdfast(run, "approve", "GET", `/v1/approvals/${told.id}?wait=60s`));
        return told.choice;
      });
      if (choice !== "approve") return { run, choice };

      const sent = await ctx.run("send", async () => {
        const body = { target: "outbox", path: "/reminders", payload: { invoice: run, ...mail }, requires: [exchange] };
        let { told } = await holdfast(run, "send", "POST", "/v1/effects", body);
        while (["recorded", "sending", "doubt"].includes(told.state)) {
          ({ told } = await holdfast(run, "send", "GET", `/v1/effects/${told.id}?wait=60s`));
        }
        return told;
      });
      return { run, choice, effect: sent.state, receipt: sent.result.body };
    },
  },
});

restate.serve({ services: [reminder], port: Number(process.env.PORT ?? 9080) });
