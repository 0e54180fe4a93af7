//! What is sent arrives byte for byte, however it is pieced together.

use bytes::Bytes;
use holdfast_upstream::{Http2, Pieces, Pool};
use http::Request;
use tokio::task::spawn_local;

use crate::http2::Server;
use crate::rig::{answer, endpoint, listen, read, request, run};

/// Eight mebibytes in pieces of every size, empty ones included.
fn pieces() -> (Vec<Bytes>, Vec<u8>) {
    let all: Vec<u8> = (0_u32..8 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut pieces = vec![Bytes::new()];
    let mut rest = Bytes::from(all.clone());
    for size in [1, 2, 0, 16_383, 1 << 20, 16_384, 5, 3 << 20] {
        pieces.push(rest.split_to(size));
    }
    pieces.push(rest);
    pieces.push(Bytes::new());
    (pieces, all)
}

fn large() -> (Request<Pieces>, Vec<u8>) {
    let (pieces, all) = pieces();
    let request = Request::post("http://vendor.test/v1/messages")
        .header("host", "vendor.test")
        .body(Pieces::new(pieces))
        .unwrap();
    (request, all)
}

#[test]
fn a_large_body_has_its_length_and_every_byte() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = request(&mut stream).await.unwrap();
            answer(&mut stream, "ok").await;
            seen
        });
        let (request, all) = large();
        let connection = Pool::new(endpoint(address)).connect().await.unwrap();
        let response = connection.send(request).await.unwrap();
        assert_eq!(read(response.answer).await.unwrap(), "ok");
        let seen = server.await.unwrap();
        let head = seen.head.to_ascii_lowercase();
        assert_eq!(
            head.matches("content-length: 8388608\r\n").count(),
            1,
            "{head}"
        );
        assert!(!head.contains("transfer-encoding"), "{head}");
        assert!(seen.body == all, "the bytes differ");
    });
}

#[test]
fn a_large_body_goes_through_http2_windows() {
    run(async {
        let (listener, address) = listen().await;
        let mut server = Server::new(listener);
        let mut endpoint = endpoint(address);
        endpoint.http2 = Http2::PriorKnowledge;
        let (request, all) = large();
        let pool = Pool::new(endpoint);
        let calling = spawn_local(async move {
            let response = pool.connect().await.unwrap().send(request).await.unwrap();
            read(response.answer).await.unwrap()
        });
        let mut call = server.next().await;
        assert_eq!(call.request.headers()["content-length"], "8388608");
        let mut got = Vec::new();
        while let Some(data) = call.request.body_mut().data().await {
            let data = data.unwrap();
            let flow = call.request.body_mut().flow_control();
            flow.release_capacity(data.len()).unwrap();
            got.extend_from_slice(&data);
        }
        call.answer("ok");
        assert_eq!(calling.await.unwrap(), "ok");
        assert!(got == all, "the bytes differ");
    });
}

#[test]
fn a_body_counts_down_as_it_is_sent() {
    let (pieces, all) = pieces();
    let body = Pieces::new(pieces);
    assert_eq!(body.len(), all.len() as u64);
    assert!(!body.is_empty());
    assert!(Pieces::new([Bytes::new()]).is_empty());
}
