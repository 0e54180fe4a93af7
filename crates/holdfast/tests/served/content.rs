//! What an answer says lies nowhere in the open, not even where it was refused for what it says.

use http::Method;
use serde_json::{Value, json};

use crate::house::{House, two_vendors, vendor};

/// Stands in the vendor's answer, and so in the question, which asks for it.
const CANARY: &str = "canary7f3a";

const ROUTES: &str = "routes:
  - model: invoices
    targets: [chat]
    delivery: whole
    tickets: all
    gate:
      on: json
      json_schema: {properties: {iban: {type: number}}, required: [iban]}
      cel: ['json.iban > 0']
  - model: streamed
    targets: [chat]
    gate: {json_schema: {properties: {iban: {maxLength: 3}}}}";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fails_its_gate_is_quoted_to_the_model_and_kept_sealed() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    let run = json!({"id": "nightly"});
    assert!(house.post("/v1/runs", &run).await.status < 300);
    let schema = json!({
        "type": "object", "required": ["iban"], "properties": {"iban": {"const": CANARY}},
    });
    let ask = async |model, key, stream: bool| {
        let body = json!({
            "model": model, "stream": stream, "messages": [{"role": "user", "content": "tell me"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        });
        let mut headers = vec![("holdfast-run", "nightly")];
        headers.extend(Option::<&str>::map(key, |key| ("idempotency-key", key)));
        let path = "/v1/chat/completions";
        house.send(Method::POST, path, &headers, &body).await
    };
    for key in [Some("k"), None] {
        let failed = ask("invoices", key, false).await;
        failed.assert_code(502, "HF-033");
        assert!(failed.text.contains("$.iban"), "{failed:?}");
        assert!(!failed.text.contains(CANARY), "{failed:?}");
    }
    // What was streamed before it could be held is flagged.
    let streamed = ask("streamed", None, true).await;
    let data = streamed.text.lines();
    let said: String = data
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk: Value| {
            Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
        })
        .collect();
    assert!(said.contains(CANARY), "{streamed:?}");
    // The model that is asked again hears what it wrote.
    let again = one.requests().remove(1).1;
    assert!(
        again.contains("is not of type") && again.matches(CANARY).count() > 2,
        "{again}"
    );

    let opened = house.event("ticket.opened").await;
    assert!(!opened.to_string().contains(CANARY), "{opened}");
    let path = format!("/v1/tickets/{}", opened["subject"].as_str().unwrap());
    let short = house.get(&format!("{path}?content=false")).await;
    assert!(!short.to_string().contains(CANARY), "{short}");
    // Who is to decide sees the question and what came of it.
    let ticket = house.get(&path).await;
    let refused = ticket["content"]["refused"].as_str().unwrap();
    assert_eq!(refused, json!({"iban": CANARY}).to_string());
    let shown = house.command(&["review", "show", opened["subject"].as_str().unwrap()]);
    assert!(
        shown.contains("refused") && shown.contains(CANARY),
        "{shown}"
    );

    // The ledger is written behind the answer; all of it is there when the process has ended.
    let (log, kept) = house.leave();
    let is_in = |bytes: &[u8], word: &str| {
        let word = word.as_bytes();
        bytes.windows(word.len()).any(|window| window == word)
    };
    for told in [
        "$.iban: the value is not of type",
        "$.iban: the value is longer",
    ] {
        assert!(
            is_in(&kept, told),
            "the store says what failed, and where: {told}"
        );
    }
    assert!(
        !is_in(&kept, CANARY),
        "the store has the answer in the open"
    );
    assert!(log.contains("invoices"), "{log}");
    assert!(!log.contains(CANARY), "{log}");
}
