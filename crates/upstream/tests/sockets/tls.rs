//! TLS: who is trusted, which protocol is chosen, and what a refusal says.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_upstream::{Endpoint, Error, Http2, Pool, SystemRoots, TlsError, tls_config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::http2::drive;
use crate::rig::{ask, call, endpoint, listen, read, run};

/// A certificate for `localhost` from an authority of its own.
struct Certified {
    server: ServerConfig,
    authority: String,
}

/// Each has a name of its own: one of the same name would be taken for it, and its signature be wrong.
static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

fn certified(alpn: &[&str]) -> Certified {
    let mut params = CertificateParams::default();
    let name = format!("authority {}", AUTHORITIES.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Certified {
        server,
        authority: authority.pem(),
    }
}

/// The file is the test's own, so that tests can run at once.
fn file(test: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.pem"));
    std::fs::write(&path, content).unwrap();
    path
}

/// Serves HTTP/1.1 or HTTP/2, as the handshake chose, and counts connections of each.
fn serve(listener: TcpListener, config: ServerConfig) -> mpsc::UnboundedReceiver<&'static str> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (chosen, seen) = mpsc::unbounded_channel();
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                chosen.send("h2").unwrap();
                let (calls, mut asked) = mpsc::unbounded_channel();
                let (_, taken) = mpsc::unbounded_channel();
                spawn_local(async move {
                    while let Some(call) = asked.recv().await {
                        let call: crate::http2::Call = call;
                        assert_eq!(call.request.uri(), "https://vendor.test/v1/messages");
                        call.answer("by h2");
                    }
                });
                spawn_local(drive(0, stream, 100, calls, taken));
            } else {
                chosen.send("http/1.1").unwrap();
                spawn_local(echo_tls(stream));
            }
        }
    });
    seen
}

async fn echo_tls(mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) {
    while let Some(seen) = crate::rig::request(&mut stream).await {
        crate::rig::answer(&mut stream, std::str::from_utf8(&seen.body).unwrap()).await;
    }
}

fn secured(address: std::net::SocketAddr, ca: Option<&PathBuf>, http2: Http2) -> Endpoint {
    Endpoint {
        host: "localhost".to_owned(),
        tls: Some(tls_config(&SystemRoots::load(), ca.map(PathBuf::as_path), http2).unwrap()),
        http2,
        ..endpoint(address)
    }
}

#[test]
fn an_unknown_authority_is_refused_with_a_reason() {
    run(async {
        let (listener, address) = listen().await;
        let _seen = serve(listener, certified(&["h2"]).server);
        let pool = Pool::new(secured(
            address,
            Some(&other_authority("unknown")),
            Http2::Auto,
        ));
        let error = call(&pool, "x").await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("localhost"), "{shown}");
        assert!(shown.contains("UnknownIssuer"), "{shown}");
    });
}

/// An authority that signed nothing, besides whatever the system trusts.
fn other_authority(test: &str) -> PathBuf {
    file(test, &certified(&[]).authority)
}

#[test]
fn an_authority_from_ca_file_is_trusted_and_http2_chosen() {
    run(async {
        let (listener, address) = listen().await;
        let certified = certified(&["h2", "http/1.1"]);
        let ca = file("trusted", &certified.authority);
        let mut seen = serve(listener, certified.server);
        let pool = Pool::new(secured(address, Some(&ca), Http2::Auto));
        for _ in 0..3 {
            let response = call(&pool, "x").await.unwrap();
            assert_eq!(read(response.answer).await.unwrap(), "by h2");
        }
        assert_eq!(seen.recv().await, Some("h2"));
        assert!(seen.try_recv().is_err(), "one connection was enough");
    });
}

#[test]
fn http1_is_spoken_where_the_server_or_the_configuration_wants_it() {
    run(async {
        for (offered, wish) in [
            (&["http/1.1"][..], Http2::Auto),
            (&[][..], Http2::Auto),
            (&["h2", "http/1.1"][..], Http2::Never),
        ] {
            let (listener, address) = listen().await;
            let certified = certified(offered);
            let ca = file("chosen", &certified.authority);
            let mut seen = serve(listener, certified.server);
            let pool = Pool::new(secured(address, Some(&ca), wish));
            assert_eq!(ask(&pool, "one").await, "one");
            assert_eq!(ask(&pool, "two").await, "two");
            assert_eq!(seen.recv().await, Some("http/1.1"));
            assert!(seen.try_recv().is_err(), "one connection was enough");
        }
    });
}

/// Before the first handshake nobody knows which protocol it will be: a burst must neither open a
/// connection for each call of an HTTP/2 server nor make calls of an HTTP/1.1 server wait for another.
#[test]
fn a_cold_burst_shares_http2_and_does_not_queue_on_http1() {
    run(async {
        for (offered, most) in [("h2", 2), ("http/1.1", 20)] {
            let (listener, address) = listen().await;
            let certified = certified(&[offered]);
            let ca = file("burst", &certified.authority);
            let mut seen = serve(listener, certified.server);
            let mut endpoint = secured(address, Some(&ca), Http2::Auto);
            endpoint.streams_per_connection = 10;
            let pool = Pool::new(endpoint);
            let mut connecting = JoinSet::new();
            for _ in 0..20 {
                let pool = pool.clone();
                connecting.spawn_local(async move { pool.connect().await.unwrap() });
            }
            // All are held at once: a call that waited for another's end would never come.
            let held = connecting.join_all().await;
            assert_eq!(held.len(), 20);
            for _ in 0..most {
                assert_eq!(seen.recv().await, Some(offered));
            }
            assert!(
                seen.try_recv().is_err(),
                "over {most} connections by {offered}"
            );
        }
    });
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    run(async {
        let (listener, address) = listen().await;
        let certified = certified(&["h2"]);
        let ca = file("name", &certified.authority);
        let _seen = serve(listener, certified.server);
        let mut endpoint = secured(address, Some(&ca), Http2::Auto);
        endpoint.host = address.ip().to_string();
        let error = call(&Pool::new(endpoint), "x").await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("not valid for name"), "{shown}");
    });
}

#[test]
fn a_server_that_speaks_no_tls_is_told() {
    run(async {
        let (listener, address) = listen().await;
        spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                crate::rig::answer(&mut stream, "in the clear").await;
                crate::rig::closed(&mut stream).await;
            }
        });
        let pool = Pool::new(secured(
            address,
            Some(&other_authority("clear")),
            Http2::Auto,
        ));
        let error = call(&pool, "x").await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error}");
    });
}

#[test]
fn a_plain_call_to_a_tls_server_is_told() {
    run(async {
        let (listener, address) = listen().await;
        let _seen = serve(listener, certified(&["h2"]).server);
        let error = call(&Pool::new(endpoint(address)), "x").await.unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
    });
}

#[test]
fn files_without_certificates_are_named() {
    let empty = file("empty", "no certificate here\n");
    let error = tls_config(&SystemRoots::load(), Some(&empty), Http2::Auto).unwrap_err();
    assert!(matches!(error, TlsError::Certificates { .. }), "{error}");
    assert!(error.to_string().contains("empty.pem"), "{error}");
    let missing = empty.with_file_name("missing.pem");
    let error = tls_config(&SystemRoots::load(), Some(&missing), Http2::Auto).unwrap_err();
    assert!(matches!(error, TlsError::File { .. }), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("missing.pem"), "{shown}");
}
