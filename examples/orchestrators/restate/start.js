// Starts the workflow for an invoice, or finds the one that runs or ran, and prints its result.
//   node start.js invoice-1042

const INGRESS = process.env.RESTATE_INGRESS ?? "http://127.0.0.1:8080";
const run = encodeURIComponent(process.argv[2]);

const begun = await fetch(`${INGRESS}/reminder/${run}/run/send`, { method: "POST" });
// 409: it was started before; then its result is waited for, and nothing is done again.
if (!begun.ok && begun.status !== 409) throw new Error(`${begun.status}: ${await begun.text()}`);
const result = await fetch(`${INGRESS}/restate/workflow/reminder/${run}/attach`);
if (!result.ok) throw new Error(`${result.status}: ${await result.text()}`);
console.log(JSON.stringify(await result.json()));
