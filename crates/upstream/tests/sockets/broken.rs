//! Everything that goes wrong before a response has an error that says which.

use holdfast_upstream::{Cause, Error, Pool};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

use crate::rig::{call, closed, endpoint, listen, read, request, run};

/// The error of a call whose server does this once it has the request.
async fn told(bytes: &'static [u8], reset: bool) -> Error {
    let (listener, address) = listen().await;
    let server = spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        if reset {
            stream.set_zero_linger().unwrap();
        } else {
            stream.shutdown().await.unwrap();
            closed(&mut stream).await;
        }
    });
    let error = call(&Pool::new(endpoint(address)), "x").await.unwrap_err();
    server.await.unwrap();
    error
}

#[test]
fn a_refused_connection_names_the_address() {
    run(async {
        let (listener, address) = listen().await;
        drop(listener);
        let error = call(&Pool::new(endpoint(address)), "x").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(&address.to_string()), "{shown}");
        assert!(shown.contains("refused"), "{shown}");
    });
}

#[test]
fn a_name_that_nobody_has_is_told() {
    run(async {
        let (_listener, address) = listen().await;
        let mut endpoint = endpoint(address);
        // Not a name at all, so that nobody is asked for it.
        endpoint.host = "no such host".to_owned();
        let error = call(&Pool::new(endpoint), "x").await.unwrap_err();
        assert!(error.to_string().contains("no such host"), "{error}");
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    });
}

#[test]
fn each_way_to_break_in_the_head_is_told_apart() {
    run(async {
        let nothing = told(b"", false).await.to_string();
        let half = told(b"HTTP/1.1 200 OK\r\nContent-Ty", false)
            .await
            .to_string();
        let reset = told(b"HTTP/1.1 200 OK\r\nContent-Ty", true)
            .await
            .to_string();
        let garbage = told(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", false)
            .await
            .to_string();
        for shown in [&nothing, &half, &reset, &garbage] {
            assert!(
                shown.starts_with("the connection broke before a response"),
                "{shown}"
            );
        }
        assert!(
            nothing.contains("closed before message completed"),
            "{nothing}"
        );
        assert!(half.contains("closed before message completed"), "{half}");
        assert!(reset.contains("reset"), "{reset}");
        assert!(garbage.contains("invalid HTTP version"), "{garbage}");
    });
}

#[test]
fn a_head_without_end_is_refused() {
    run(async {
        let (listener, address) = listen().await;
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
            let filler = vec![b'a'; 64 << 10];
            let mut written = 0;
            // It ends by the client's close, or the test hangs.
            while stream.write_all(&filler).await.is_ok() {
                written += filler.len();
            }
            written
        });
        let error = call(&Pool::new(endpoint(address)), "x").await.unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
        assert!(error.to_string().contains("too large"), "{error}");
        assert!(server.await.unwrap() < 64 << 20, "read without a limit");
    });
}

/// The body of an answer that is cut this way after `hello`.
async fn cut(head: &'static [u8], reset: bool) -> Result<String, Cause> {
    let (listener, address) = listen().await;
    let server = spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        stream.write_all(head).await.unwrap();
        if reset {
            stream.set_zero_linger().unwrap();
        }
    });
    let response = call(&Pool::new(endpoint(address)), "x").await.unwrap();
    let end = read(response.answer).await;
    server.await.unwrap();
    end
}

#[test]
fn a_cut_body_is_an_error_whatever_its_framing() {
    run(async {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n";
        assert!(cut(length, false).await.is_err());
        assert!(cut(chunked, false).await.is_err());
        assert!(cut(bad, false).await.is_err());
        let open = b"HTTP/1.1 200 OK\r\n\r\nhello";
        // Without a length the close is the end: only the judge can tell that something is missing.
        assert_eq!(cut(open, false).await.unwrap(), "hello");
    });
}

#[test]
fn a_reset_body_is_an_error_even_without_a_length() {
    run(async {
        let (listener, address) = listen().await;
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let server = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nhello")
                .await
                .unwrap();
            gone.await.unwrap();
            stream.set_zero_linger().unwrap();
        });
        let mut answer = call(&Pool::new(endpoint(address)), "x")
            .await
            .unwrap()
            .answer;
        assert_eq!(
            crate::rig::piece(&mut answer).await.unwrap().unwrap(),
            "hello"
        );
        go.send(()).unwrap();
        server.await.unwrap();
        assert!(read(answer).await.is_err());
    });
}
