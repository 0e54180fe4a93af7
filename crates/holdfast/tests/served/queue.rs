//! Calls that no vendor answered, from the error to the answer that their caller gets.

use holdfast_sim::check_text;
use serde_json::{Value, json};

use crate::house::{House, fails, two_vendors, vendor};

const ROUTES: &str = "routes:
  - {model: claude, targets: [one, two]}
  - {model: slow, targets: [one, two], ticket_retry: never}
  - {model: patient, targets: [one, two], ticket_retry: when_healthy}
  - model: worded
    targets: [one, two]
    ticket_retry: never
    gate: {must_contain: [Kind regards], asks: 0}";

fn is_replayed(answer: &crate::house::Answer) -> bool {
    answer.header("idempotent-replayed") == "true"
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_hand_reaches_the_caller_that_repeats_its_call() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    let failed = house.call("worded", "k").await;
    failed.assert_code(502, "HF-033");
    let ticket = house.ticket().await;
    assert!(failed.text.contains(ticket.rsplit('/').next().unwrap()));
    let asked = (one.requests().len(), two.requests().len());
    assert_eq!(asked, (1, 1));
    house.call("worded", "k").await.assert_code(503, "HF-030");

    let answer = format!("{ticket}/answer");
    for (body, status, code) in [
        (json!({"text": "No."}), 422, "HF-033"),
        (json!({"text": " "}), 400, "HF-001"),
        (json!({}), 400, "HF-001"),
        (json!({"body": {"content": "Kind regards"}}), 400, "HF-001"),
        (
            json!({"body": {"content": [{"type": "text", "text": "Kind regards"}],
                "stop_reason": "no such"}}),
            400,
            "HF-001",
        ),
        (
            json!({"body": {"content": [{"type": "text", "text": "No."}],
                "stop_reason": "end_turn"}}),
            422,
            "HF-033",
        ),
    ] {
        house.post(&answer, &body).await.assert_code(status, code);
    }
    assert_eq!(house.get(&ticket).await["state"], "open");

    let good = json!({"text": "It is paid. Kind regards", "by": "Ann"});
    let decided = house.post(&answer, &good).await;
    assert_eq!(decided.status, 200, "{decided:?}");
    assert_eq!(house.post(&answer, &good).await.status, 409);
    for _ in 0..2 {
        let repeat = house.call("worded", "k").await;
        assert_eq!(repeat.said(), "It is paid. Kind regards");
        assert!(is_replayed(&repeat), "{repeat:?}");
        assert_eq!(repeat.header("holdfast-target"), "review");
    }
    assert_eq!((one.requests().len(), two.requests().len()), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_by_hand_is_no_final_answer_and_passes_the_gate() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    house.call("worded", "k").await.assert_code(502, "HF-033");
    let answer = format!("{}/answer", house.ticket().await);
    let call = json!({"body": {
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
        "stop_reason": "tool_use",
    }});
    assert_eq!(house.post(&answer, &call).await.status, 200);
    let repeat = house.call("worded", "k").await;
    assert_eq!(repeat.json()["content"][0]["name"], "look", "{repeat:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_asks_the_vendors_anew_or_the_one_that_was_chosen() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    fails(&one, Some("status:500"));
    fails(&two, Some("status:500"));
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    for (key, target) in [("any", Value::Null), ("chosen", json!("two"))] {
        house.call("slow", key).await.assert_code(502, "HF-013");
        let retry = format!("{}/retry", house.ticket().await);
        let failed = house.post(&retry, &json!({})).await;
        assert_eq!(
            (failed.status, &failed.json()["answered"]),
            (200, &json!(false))
        );
        let elsewhere = json!({"target": "nowhere"});
        house
            .post(&retry, &elsewhere)
            .await
            .assert_code(400, "HF-001");
        house.call("slow", key).await.assert_code(503, "HF-030");

        fails(&two, None);
        let before = (one.requests().len(), two.requests().len());
        let body = if target.is_null() {
            json!({})
        } else {
            json!({"target": target})
        };
        let answered = house.post(&retry, &body).await;
        assert_eq!(answered.json()["answered"], true, "{answered:?}");
        let of_one = one.requests().len() - before.0;
        assert_eq!(of_one, usize::from(target.is_null()));
        assert_eq!(two.requests().len() - before.1, 1);
        let repeat = house.call("slow", key).await;
        assert!(
            is_replayed(&repeat) && check_text(&repeat.said()),
            "{repeat:?}"
        );
        assert_eq!(two.requests().len() - before.1, 1);
        fails(&two, Some("status:500"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_call_is_told_so_whenever_it_is_repeated() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    fails(&one, Some("status:500"));
    fails(&two, Some("status:500"));
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    house.call("slow", "k").await.assert_code(502, "HF-013");
    let reject = format!("{}/reject", house.ticket().await);
    let reason = json!({"reason": "The customer has cancelled."});
    assert_eq!(house.post(&reject, &reason).await.status, 200);
    fails(&one, None);
    for _ in 0..2 {
        let repeat = house.call("slow", "k").await;
        repeat.assert_code(403, "HF-036");
        let message = repeat.json()["error"]["message"].to_string();
        assert!(message.contains("The customer has cancelled."), "{message}");
        assert!(is_replayed(&repeat), "{repeat:?}");
    }
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_asked_again_by_itself_when_a_vendor_is_back() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    fails(&one, Some("status:500"));
    fails(&two, Some("status:500"));
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    house.call("patient", "k").await.assert_code(502, "HF-013");
    fails(&two, None);
    let decided = house.event("ticket.decided").await;
    let ticket = house
        .get(&format!(
            "/v1/tickets/{}",
            decided["subject"].as_str().unwrap()
        ))
        .await;
    assert_eq!(ticket["state"], "resolved", "{ticket}");
    let calls = two.requests().len();
    let repeat = house.call("patient", "k").await;
    assert!(
        is_replayed(&repeat) && check_text(&repeat.said()),
        "{repeat:?}"
    );
    assert_eq!(two.requests().len(), calls);
}
