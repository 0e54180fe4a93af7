//! What prompts and answers look like on the disk.

use holdfast_review::Terms;
use holdfast_store::{Claimed, NewTicket, RetryPolicy, Seal};
use serde_json::json;

use crate::stage::{Stage, caller};

const PROMPT: &str = "canary-in-the-prompt";
const ANSWER: &str = "canary-in-the-answer";
const BASE64: [&str; 3] = ["Y2FuYXJ5L", "NhbmFyeS1", "jYW5hcnkta"];

/// Everything that the store has written.
async fn disk(stage: &Stage) -> Vec<u8> {
    stage.store.close().await;
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(stage.dir.path()).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// A keyed and a keyless call, both answered by hand.
async fn answered(seal: Option<Seal>) -> Stage {
    let stage = Stage::with(Terms::default(), seal).await;
    let ann = caller("ann");
    let keyed = stage.failed_call("key", RetryPolicy::OnRepeat).await;
    let ticket = NewTicket {
        key: None,
        content: Some(crate::stage::kept(PROMPT, "claude", true).to_bytes()),
        ..stage.ticket("s", "claude", true)
    };
    let keyless = stage.store.open_ticket(ticket).await.unwrap();
    let (_, shown) = stage.get(&ann, &format!("/v1/tickets/{keyless}")).await;
    assert_eq!(shown["content"]["body"]["messages"][0]["content"], PROMPT);
    for id in [keyed, keyless] {
        let (status, _) = stage
            .post(&ann, &id, "answer", json!({"text": ANSWER}))
            .await;
        assert_eq!(status, 200);
    }
    let Claimed::Done(answer) = stage.repeat("key").await else {
        panic!("the repeat has no answer");
    };
    assert!(holds(&answer.body, ANSWER));
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_content_is_nowhere_on_the_disk() {
    let stage = answered(Some(Seal::new([9; 32], &[]))).await;
    let bytes = disk(&stage).await;
    for text in [PROMPT, ANSWER].into_iter().chain(BASE64) {
        assert!(!holds(&bytes, text), "{text}");
    }
    assert!(
        holds(&bytes, "every target failed"),
        "titles and facts stay readable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_it_is() {
    let stage = answered(None).await;
    let bytes = disk(&stage).await;
    assert!(holds(&bytes, ANSWER));
    assert!(BASE64.iter().any(|text| holds(&bytes, text)));
}
