#!/usr/bin/env bash
# The workflow with nothing but curl and jq: ./curl.sh invoice-1042
# Kill it anywhere and start it again with the same invoice: it goes on where it was.
set -euo pipefail
holdfast=${HOLDFAST_URL:-http://127.0.0.1:4000}
run=$1

# call STEP METHOD PATH [BODY]: what Holdfast says, or the end of this script.
call() {
  curl -sS --fail-with-body --max-time 90 -X "$2" "$holdfast$3" -H 'Content-Type: application/json' \
    -H "Holdfast-Run: $run" -H "Holdfast-Step: $1" ${4:+-d "$4"}
}

call declare POST /v1/runs "$(jq -n '{id: $run, expect: ["draft", "approve", "send"], deadline: "7d"}' --arg run "$run")" >/dev/null

# The model is asked once: run and step are the key. Its headers name the exchange that the effect will require.
heads=$(mktemp) && trap 'rm -f "$heads"' EXIT
question=$(jq -n '{model: "reminder", messages: [{role: "user", content: ("Write a friendly reminder for " + $run + " as JSON: subject, text.")}]}' --arg run "$run")
mail=$(curl -sS --fail-with-body --max-time 600 -D "$heads" "$holdfast/v1/chat/completions" -H 'Content-Type: application/json' \
  -H "Holdfast-Run: $run" -H 'Holdfast-Step: draft' -d "$question" | jq -r '.choices[0].message.content')
exchange=$(tr -d '\r' <"$heads" | awk 'tolower($1) == "holdfast-exchange:" {print $2}')

# A person is asked once, and waited for.
approval=$(call approve POST /v1/approvals "$(jq -n '{question: ("Send \"" + $mail.subject + "\"?"), context: $mail, key: ($run + "/approve")}' --arg run "$run" --argjson mail "$mail")")
while [ "$(jq -r .state <<<"$approval")" = open ]; do
  approval=$(call approve GET "/v1/approvals/$(jq -r .id <<<"$approval")?wait=60s")
done

# Sent once, and only if the answer that it is made of was whole.
result=$(jq -c '{run: $run, choice: .choice}' --arg run "$run" <<<"$approval")
if [ "$(jq -r .choice <<<"$approval")" = approve ]; then
  effect=$(jq -n '{target: "outbox", path: "/reminders", payload: ({invoice: $run} + $mail), requires: [$exchange]}' --arg run "$run" --arg exchange "$exchange" --argjson mail "$mail")
  sent=$(call send POST /v1/effects "$effect")
  while jq -e '.state | IN("recorded", "sending", "doubt")' <<<"$sent" >/dev/null; do
    sent=$(call send GET "/v1/effects/$(jq -r .id <<<"$sent")?wait=60s")
  done
  result=$(jq -c '. + {effect: $sent.state, receipt: $sent.result.body}' --argjson sent "$sent" <<<"$result")
fi
call end POST "/v1/runs/$run/end" '{"state":"done"}' >/dev/null
printf '%s\n' "$result"
