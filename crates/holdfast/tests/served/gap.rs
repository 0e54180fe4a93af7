//! `holdfast gap` from a ledger that real calls have written.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::house::{House, fails, two_vendors, vendor};

const ROUTES: &str = "routes:
  - {model: claude, targets: [one, two]}
  - {model: worded, targets: [one], gate: {must_contain: [Kind regards], asks: 0}}";

/// Until the ledger has all exchanges of a run: it is written behind the answers.
async fn booked(house: &House, run: &str, exchanges: usize) {
    let waiting = async {
        loop {
            let shown = house.get(&format!("/v1/runs/{run}")).await;
            let booked = shown["exchanges"].as_array().map_or(0, Vec::len);
            if booked == exchanges {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let booked = tokio::time::timeout(Duration::from_mins(1), waiting).await;
    booked.expect("the ledger lacks an exchange");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_runs_are_counted_as_they_went() {
    let (one, two) = (vendor("one").await, vendor("two").await);
    let house = House::open(&two_vendors(&one, &two, ROUTES)).await;
    let ask = async |run: &str, step: &str, model: &str| {
        let place = [("holdfast-run", run), ("holdfast-step", step)];
        let body = crate::house::question(model);
        house
            .send(Method::POST, "/v1/messages", &place, &body)
            .await
            .status
    };
    for number in 0..4 {
        let run = format!("run-{number}");
        let declared = json!({"id": run, "labels": {"flow": "gap"}});
        assert!(house.post("/v1/runs", &declared).await.status < 300);
        assert_eq!(ask(&run, "plan", "claude").await, 200);
        // The first vendor fails in two runs; the second one answers.
        fails(&one, (number < 2).then_some("status:500"));
        assert_eq!(ask(&run, "write", "claude").await, 200);
        fails(&one, None);
        let is_last = number == 3;
        let model = if is_last { "worded" } else { "claude" };
        let status = if is_last { 502 } else { 200 };
        assert_eq!(ask(&run, "check", model).await, status);
        let end = json!({"state": if is_last { "failed" } else { "done" }});
        let end = house.post(&format!("/v1/runs/{run}/end"), &end).await;
        assert_eq!(end.status, 200, "{end:?}");
        booked(&house, &run, 3).await;
    }
    let told = house.command(&["gap", "--label", "flow=gap", "--json"]);
    let read: Value = serde_json::from_str(&told).unwrap();
    let steps: Vec<_> = read["steps"].as_array().unwrap().iter().collect();
    let counted: Vec<_> = steps
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), &step["ok"], &step["total"]))
        .collect();
    assert_eq!(
        counted,
        [
            ("plan", &json!(4), &json!(4)),
            ("write", &json!(4), &json!(4)),
            ("check", &json!(3), &json!(4)),
        ],
        "{read}"
    );
    let runs = &read["runs"][0];
    assert_eq!(
        (&runs["ok"], &runs["total"]),
        (&json!(3), &json!(4)),
        "{read}"
    );
    // The gate was seen to stop something.
    assert_eq!(steps[2]["supervised"], true, "{read}");
    // And as a table with its plot.
    let shown = house.command(&["gap", "--label", "flow=gap"]);
    for name in ["plan", "write", "check"] {
        assert!(shown.contains(name), "{shown}");
    }
}
