//! A step's gate, from the configuration to the result that completes it.

use http::Method;
use serde_json::{Value, json};

use crate::house::{Answer, House, two_vendors, vendor};

const STEPS: &str = "routes:
  - {model: claude, targets: [one]}
steps:
  - step: draft*
    gate: {on: json, json_schema: {required: [subject]}, asks: 0}";

async fn change(house: &House, step: &str, body: &Value) -> Answer {
    let path = format!("/v1/runs/nightly/steps/{step}");
    house.send(Method::PUT, &path, &[], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_lets_neither_an_answer_nor_a_result_through_that_fails_its_gate() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let house = House::open(&two_vendors(&one, &two, STEPS)).await;
    let body = crate::house::question("claude");
    let ask = async |step| {
        let place = [("holdfast-run", "nightly"), ("holdfast-step", step)];
        house
            .send(Method::POST, "/v1/messages", &place, &body)
            .await
    };
    ask("draft-1").await.assert_code(502, "HF-033");
    assert_eq!(ask("other").await.status, 200);

    let begun = change(&house, "draft-1", &json!({"do": "begin"})).await;
    let fence = begun.json()["fence"].clone();
    let complete = |result: Value| json!({"do": "complete", "fence": fence, "result": result});
    for (result, check) in [
        (json!("Here is the mail."), "json: "),
        (json!({"text": "Hello"}), "json_schema: "),
        (json!("{\"text\": \"Hello\"}"), "json_schema: "),
    ] {
        let refused = change(&house, "draft-1", &complete(result)).await;
        refused.assert_code(422, "HF-033");
        assert!(refused.text.contains(check), "{refused:?}");
    }
    let step = house.get("/v1/runs/nightly/steps/draft-1").await;
    assert_eq!(
        (&step["state"], &step["result"]),
        (&json!("running"), &Value::Null)
    );
    for result in [json!({"subject": "Hello"}), json!({"subject": "Hello"})] {
        let taken = change(&house, "draft-1", &complete(result)).await;
        assert_eq!(taken.json()["state"], "done", "{taken:?}");
    }
}
