//! What exactly is on the wire: endings, lengths, healthy answers, tools, joins, and the control endpoints.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::{Call, End, Heard, listen, make, request};
use holdfast_sim::{
    Dialect, Fault, Options, Rule, Scenario, ScenarioHandle, Script, Sim, Timing, check_text,
    make_text,
};
use serde_json::{Value, json};

const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

async fn sim() -> Sim {
    Sim::builder()
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap()
}

/// Runs blocking socket work beside the vendor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn get(address: SocketAddr, path: &str) -> Value {
    request(address, "GET", path, "", Duration::from_secs(5)).json()
}

fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> Heard {
    request(address, method, path, body, Duration::from_secs(5))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endings_are_on_the_wire() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        for dialect in BOTH {
            for stream in [true, false] {
                let hear = |fault: &str| Call::new(dialect, fault, stream).send(address);
                assert_eq!(hear("sim-ok").end, End::Framed);
                assert_eq!(hear("fault:cut-clean:after:3").end, End::Framed);
                assert_eq!(hear("fault:cut-fin:after:3").end, End::Fin);
                assert_eq!(hear("fault:cut-rst:after:3").end, End::Reset);
                assert_eq!(hear("fault:reset-before-headers").end, End::Reset);
                assert_eq!(hear("fault:close-before-headers").end, End::Fin);
                assert_eq!(hear("fault:not-http").end, End::Malformed);
                assert_eq!(hear("fault:bad-chunk").end, End::Malformed);
                let unframed = hear("fault:eof-body");
                assert!(
                    !unframed.head.contains("content-length") && !unframed.head.contains("chunked")
                );
                assert_eq!(unframed.end, End::Fin);
            }
        }
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_match_and_mismatch() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        for dialect in BOTH {
            let length = |heard: &Heard| -> usize {
                heard
                    .head
                    .split("content-length: ")
                    .nth(1)
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            };
            let matching = Call::new(dialect, "fault:short-matching", false).send(address);
            assert_eq!(
                (matching.end, length(&matching)),
                (End::Framed, matching.body.len())
            );
            assert_eq!(matching.json(), Value::Null, "half a body is no JSON");
            let lying = Call::new(dialect, "fault:short-mismatch", false).send(address);
            assert_eq!(lying.end, End::Fin);
            assert!(length(&lying) > lying.body.len());
            assert_eq!(
                Call::new(dialect, "fault:short-reset", true)
                    .send(address)
                    .end,
                End::Reset
            );
        }
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_fall_where_they_are_told() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        for dialect in BOTH {
            for stream in [true, false] {
                let inside = Call::new(dialect, "fault:cut-fin:utf8", stream).send(address);
                assert!(
                    String::from_utf8(inside.body).is_err(),
                    "the body must end inside a character"
                );
                assert_eq!(
                    Call::new(dialect, "fault:cut-fin:bytes:123", stream)
                        .send(address)
                        .body
                        .len(),
                    123
                );
            }
            let events = Call::new(dialect, "fault:cut-fin:after:3", true)
                .send(address)
                .text();
            assert_eq!(events.matches("\n\n").count(), 3);
            let call = Call::new(dialect, "fault:cut-clean:tool", true)
                .tools()
                .send(address);
            let made = make(dialect, true, &call);
            assert_eq!(made.calls[0].0, "weather");
            assert!(!made.calls[0].1.is_empty());
            assert!(serde_json::from_str::<Value>(&made.calls[0].1).is_err());
        }
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_plain_calls_say_the_same_and_check() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        for dialect in BOTH {
            let said = |stream| {
                make(
                    dialect,
                    stream,
                    &Call::new(dialect, "m", stream).send(address),
                )
            };
            assert_eq!(said(true), said(false));
            assert_eq!(said(true).text, make_text(11, 30));
            assert!(check_text(&said(true).text));
            let called = |stream| {
                make(
                    dialect,
                    stream,
                    &Call::new(dialect, "m", stream).tools().send(address),
                )
                .calls
            };
            let parse =
                |calls: Vec<(String, String)>| serde_json::from_str::<Value>(&calls[0].1).unwrap();
            assert_eq!(parse(called(true)), parse(called(false)));
        }
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_thinking_and_structure_are_given_when_asked() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        let calls = Call::new(Dialect::Anthropic, "m", false)
            .tools()
            .ask("[[tools:2]]")
            .send(address)
            .json();
        assert_eq!(calls["content"].as_array().unwrap().len(), 2);
        assert_eq!(calls["stop_reason"], "tool_use");
        let thought = Call::new(Dialect::Anthropic, "m", false)
            .ask("[[thinking]]")
            .send(address)
            .json();
        assert_eq!(thought["content"][0]["type"], "thinking");
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let shaped = Call::new(Dialect::OpenAi, "m", true).with(
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
        );
        let text = make(Dialect::OpenAi, true, &shaped.send(address)).text;
        assert!(serde_json::from_str::<Value>(&text).unwrap()["n"].is_i64());
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_turn_is_finished_when_it_is_sent_back() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        let question = json!({"role": "user", "content": "[[pause seed:4 words:20]]"});
        let first = Call::new(Dialect::Anthropic, "m", false)
            .ask("[[pause seed:4 words:20]]")
            .send(address)
            .json();
        assert_eq!(first["stop_reason"], "pause_turn");
        let back = json!([question, {"role": "assistant", "content": first["content"]}]);
        let second = Call::new(Dialect::Anthropic, "m", false)
            .with("messages", back)
            .send(address)
            .json();
        assert_eq!(second["stop_reason"], "end_turn");
        let text = first["content"][0]["text"].as_str().unwrap().to_owned()
            + second["content"][0]["text"].as_str().unwrap();
        assert_eq!(text, make_text(4, 20));
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_as_the_vendor_does() {
    let sim = Sim::builder()
        .key("key")
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    blocking(move || {
        let status = |call: Call| call.send(address).status;
        for dialect in BOTH {
            assert_eq!(status(Call::new(dialect, "m", true)), 200);
            assert_eq!(status(Call::new(dialect, "no-such-model", true)), 404);
            assert_eq!(status(Call::new(dialect, "m", false).with("messages", json!([]))), 400);
            assert_eq!(status(Call::new(dialect, "m", false).with("messages", json!([{"role": "robot", "content": "x"}]))), 400);
        }
        let anthropic = || Call::new(Dialect::Anthropic, "m", false);
        assert_eq!(status(anthropic().with("max_tokens", Value::Null)), 400);
        let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "5"});
        let turns = |content: Value| json!([{"role": "user", "content": "x"}, call, {"role": "user", "content": content}]);
        assert_eq!(status(anthropic().with("messages", turns(json!([result])))), 200);
        assert_eq!(status(anthropic().with("messages", turns(json!("no result")))), 400);
        assert_eq!(status(anthropic().with("messages", turns(json!([{"type": "text", "text": "x"}, result])))), 400);
        assert_eq!(status(anthropic().with("messages", json!([{"role": "user", "content": "[[seed:1]]"}, {"role": "assistant", "content": "x"}]))), 400);
        let forged = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "thinking", "thinking": "a", "signature": "b"}]}, {"role": "user", "content": "y"}]);
        assert_eq!(status(anthropic().with("messages", forged)), 400);
        let openai = json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "user", "content": "y"}]);
        assert_eq!(status(Call::new(Dialect::OpenAi, "m", false).with("messages", openai)), 400);
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused() {
    let sim = Sim::builder()
        .key("another")
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    for dialect in BOTH {
        assert_eq!(
            blocking(move || Call::new(dialect, "m", true).send(address))
                .await
                .status,
            401
        );
    }
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_endpoints_steer_and_tell() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        let call = || Call::new(Dialect::OpenAi, "m", true).send(address);
        assert_eq!(
            send(
                address,
                "PUT",
                "/_sim/faults",
                "faults: [{fault: 'status:529:3', times: 1}]"
            )
            .status,
            200
        );
        let first = call();
        assert_eq!(first.status, 529);
        assert!(first.head.contains("retry-after: 3"));
        assert_eq!(call().status, 200);
        assert_eq!(
            send(
                address,
                "PUT",
                "/_sim/faults",
                r#"{"faults": [{"fault": "nope"}]}"#
            )
            .status,
            400
        );
        assert_eq!(
            send(
                address,
                "PUT",
                "/_sim/faults",
                r#"{"faults": [{"fault": "refuse"}]}"#
            )
            .status,
            409
        );
        let stats = get(address, "/_sim/stats");
        assert_eq!(
            (stats["calls"].as_u64(), stats["statuses"]["529"].as_u64()),
            (Some(2), Some(1))
        );
        let seen = get(address, "/_sim/requests?last=1");
        assert_eq!(
            (seen[0]["path"].as_str(), seen[0]["fault"].as_str()),
            (Some("/v1/chat/completions"), Some("ok"))
        );
        assert!(get(address, "/_sim/catalogue").as_array().unwrap().len() > 300);
        assert_eq!(get(address, "/v1/models")["data"][0]["id"], "sim-ok");
        assert_eq!(send(address, "POST", "/_sim/reset", "").status, 200);
        assert_eq!(get(address, "/_sim/stats")["calls"], 0);
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_vendor_resets_on_accept_and_a_closed_one_has_no_port() {
    let sim = sim().await;
    let address = sim.addr();
    sim.set_fault(&Fault::Refuse);
    let end = blocking(move || {
        listen(
            &mut TcpStream::connect(address).unwrap(),
            Duration::from_secs(5),
        )
        .end
    })
    .await;
    assert_eq!(end, End::Reset);
    sim.set_fault(&Fault::Healthy);
    assert!(sim.set_listening(false).await);
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert!(sim.set_listening(true).await);
    assert_eq!(
        blocking(move || Call::new(Dialect::OpenAi, "m", true).send(address))
            .await
            .status,
        200
    );
    assert_eq!(sim.stats().refused, 1);
    sim.shutdown().await;
    TcpListener::bind(address).expect("a vendor that is shut down holds no port");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_closes_for_a_while_when_told() {
    let sim = sim().await;
    let address = sim.addr();
    blocking(move || {
        let mut open = TcpStream::connect(address).unwrap();
        let told = send(address, "POST", "/_sim/listener", r#"{"closed_ms": 300}"#);
        assert_eq!((told.status, told.end), (202, End::Framed));
        // Who was there is cut off, however late this looks; a closed port may be open again by then.
        assert_eq!(open.read(&mut [0]).unwrap_or(0), 0);
        while TcpStream::connect(address).is_err() {}
        assert_eq!(
            Call::new(Dialect::OpenAi, "m", true).send(address).status,
            200
        );
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_counted() {
    let sim = sim().await;
    let address = sim.addr();
    let heard =
        blocking(move || Call::new(Dialect::Anthropic, "fault:stall:3", true).send(address)).await;
    assert_eq!(heard.end, End::Silent);
    while sim.stats().aborted_by_client == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sim.stats().open_streams, 0);
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_surfaces_share_one_scenario() {
    let rules = vec![Rule::share("status:529", 1.0)];
    let scenario: Scenario = serde_json::from_value(
        json!({"name": "x", "phases": [{"name": "down", "seconds": 3600, "faults": rules}]}),
    )
    .unwrap();
    let handle = ScenarioHandle::start(scenario, 1.0).unwrap();
    let (one, two) = (sim().await, sim().await);
    for vendor in [&one, &two] {
        vendor.set_scenario(Some(handle.clone()));
        let address = vendor.addr();
        assert_eq!(
            blocking(move || Call::new(Dialect::Anthropic, "m", true).send(address))
                .await
                .status,
            529
        );
        vendor.set_scenario(None);
        assert_eq!(
            blocking(move || Call::new(Dialect::Anthropic, "m", true).send(address))
                .await
                .status,
            200
        );
    }
    assert_eq!(handle.phase().as_deref(), Some("down"));
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_reach_the_vendor_that_they_name() {
    let sim = Sim::builder()
        .name("b")
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    blocking(move || {
        let status = |text: &str| {
            Call::new(Dialect::OpenAi, "m", true)
                .ask(text)
                .send(address)
                .status
        };
        assert_eq!(status("x [[fault@a:status:503]]"), 200);
        assert_eq!(status("x [[fault@b:status:503]]"), 503);
        assert_eq!(status("x [[fault:status:502]]"), 502);
    })
    .await;
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_requests_may_come_in_chunks() {
    let sim = Sim::builder()
        .timing(Timing {
            batch: 16,
            ..Timing::default()
        })
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    blocking(move || {
        use std::io::Write;
        let mut stream = TcpStream::connect(address).unwrap();
        let body = Call::new(Dialect::OpenAi, "m", true).body.to_string();
        let (one, two) = body.split_at(10);
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ntransfer-encoding: chunked\r\n\r\n";
        for _ in 0..3 {
            write!(
                stream,
                "{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                one.len(),
                two.len()
            )
            .unwrap();
            let reply = listen(&mut stream, Duration::from_secs(5));
            assert_eq!((reply.status, reply.end), (200, End::Framed));
        }
        stream
            .write_all(
                b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            )
            .unwrap();
        assert_eq!(listen(&mut stream, Duration::from_secs(5)).status, 400);
    })
    .await;
    assert_eq!(sim.stats().connections, 1);
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_runs_from_options_until_told_to_stop() {
    let options = Options {
        listen: vec![([127, 0, 0, 1], 0).into(); 2],
        scenario: Some("outage-2026-06-21".to_owned()),
        ..Options::default()
    };
    let (ready, addresses) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let told = |sims: &[Sim]| {
            ready
                .send(sims.iter().map(Sim::addr).collect::<Vec<_>>())
                .unwrap();
        };
        options.run(async { stopped.await.unwrap() }, told).await
    });
    let addresses = addresses.await.unwrap();
    let (first, phase) = (addresses[0], addresses[1]);
    assert_eq!(
        blocking(move || get(phase, "/_sim/faults")).await["phase"],
        "healthy"
    );
    assert_eq!(
        blocking(move || Call::new(Dialect::OpenAi, "m", true).send(first))
            .await
            .status,
        200
    );
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let bad = Options {
        script: Some("/no/such/file".into()),
        ..Options::default()
    };
    assert!(bad.start().await.is_err());
    let written = "seed: 1\ntime_scale: 0.1\nscenario:\n  name: x\n  phases:\n    - {name: a, seconds: 2.5, faults: [{fault: 'stall:2', share: 0.5}]}\n";
    assert!(Script::parse(written).is_ok());
    assert!(Script::parse(&written.replace("stall", "stalling")).is_err());
}
