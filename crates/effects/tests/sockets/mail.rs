//! Mail against a small SMTP server that says what it is told to say.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::backoff::Backoff;
use holdfast_effects::{Kind, Security, Smtp, Target};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::house::{House, Reply, dir};

const MAIL: &str = r#"{"target":"m","key":"k","payload":{"to":["ann@example.com","Bob <bob@example.com>"],
    "subject":"Größe","text":"one\n.\ntwo"}}"#;

/// Instead of the usual reply.
#[derive(Clone, Copy, Debug)]
enum Odd {
    Say(&'static str),
    Close,
    Hang,
}

/// What it does other than usual: at which word of the dialogue (`greeting`, `EHLO`, `AUTH`, `MAIL`,
/// `RCPT`, `DATA`, `.`), the first time.
type Oddities = Vec<(&'static str, Odd)>;

#[derive(Clone)]
struct Post {
    port: u16,
    /// Messages whose end was read, with what was said before.
    mails: Arc<Mutex<Vec<String>>>,
    oddities: Arc<Mutex<Oddities>>,
    tls: Option<Arc<ServerConfig>>,
    starts_clear: bool,
}

impl Post {
    async fn start(oddities: Oddities, tls: Option<Arc<ServerConfig>>, starts_clear: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let post = Self {
            port: listener.local_addr().unwrap().port(),
            mails: Arc::default(),
            oddities: Arc::new(Mutex::new(oddities)),
            tls,
            starts_clear,
        };
        let served = post.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let post = served.clone();
                tokio::spawn(async move {
                    match &post.tls {
                        Some(tls) if !post.starts_clear => {
                            let acceptor = TlsAcceptor::from(tls.clone());
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                post.talk(BufStream::new(stream), true).await;
                            }
                        }
                        _ => {
                            let Some(stream) = post.talk(BufStream::new(tcp), true).await else {
                                return;
                            };
                            let acceptor = TlsAcceptor::from(post.tls.clone().unwrap());
                            if let Ok(stream) = acceptor.accept(stream.into_inner()).await {
                                post.talk(BufStream::new(stream), false).await;
                            }
                        }
                    }
                });
            }
        });
        post
    }

    fn odd(&self, word: &str) -> Option<Odd> {
        let mut oddities = self.oddities.lock();
        let at = oddities.iter().position(|(at, _)| *at == word)?;
        Some(oddities.remove(at).1)
    }

    /// `Some`: TLS was asked for.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufStream<S>,
        greets: bool,
    ) -> Option<BufStream<S>> {
        if greets {
            self.say(&mut stream, "greeting", "220 post.example")
                .await?;
        }
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            said.push_str(&line);
            let word = line.split_whitespace().next()?.to_ascii_uppercase();
            let usual = match word.as_str() {
                "EHLO" if self.starts_clear && greets => "250-post.example\r\n250 STARTTLS",
                "EHLO" => "250-post.example\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
                "AUTH" => "235 welcome",
                "STARTTLS" => "220 go on",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            self.say(&mut stream, &word, usual).await?;
            if word == "STARTTLS" {
                return Some(stream);
            }
            if word == "DATA" && usual == "354 go on" {
                self.text(&mut stream, &mut said).await?;
            }
        }
    }

    async fn text<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        said: &mut String,
    ) -> Option<()> {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            said.push_str(&line);
            if line == ".\r\n" {
                self.mails.lock().push(said.clone());
                return self.say(stream, ".", "250 taken as 42").await;
            }
        }
    }

    async fn say<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        word: &str,
        usual: &str,
    ) -> Option<()> {
        let line = match self.odd(word) {
            None => usual,
            Some(Odd::Say(line)) => line,
            Some(Odd::Close) => return None,
            Some(Odd::Hang) => std::future::pending().await,
        };
        let line = format!("{line}\r\n");
        stream.write_all(line.as_bytes()).await.ok()?;
        stream.flush().await.ok()
    }

    fn target(&self, security: Security) -> Target {
        Target {
            name: "m".to_owned(),
            kind: Kind::Smtp(Smtp {
                host: "localhost".to_owned(),
                port: self.port,
                security,
                login: Some(("robot".to_owned(), "password".to_owned().into())),
                from: "Robot <robot@example.com>".parse().unwrap(),
                allow_to: vec!["*@example.com".to_owned()],
            }),
            honours_keys: false,
            allow_private: true,
            timeout: Duration::from_secs(20),
            attempts: 2,
            backoff: Backoff {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(2),
            },
            payload_bytes: 10_000,
            parallel: 8,
        }
    }
}

/// Trusts this certificate, or none at all.
pub(crate) fn client_config(trusted: Option<CertificateDer<'static>>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(certificate) = trusted {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub(crate) fn certificate() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (Arc::new(config), certificate)
}

async fn played(
    oddities: Oddities,
    change: fn(&mut Target),
) -> (Reply, Vec<String>, Option<Value>) {
    let post = Post::start(oddities, None, false).await;
    let mut target = post.target(Security::None);
    change(&mut target);
    let (_dir, path) = dir();
    let house = House::open(&path, [target]).await;
    let reply = house.post(MAIL).await.unwrap();
    let facts = match reply.json["ticket"].as_str() {
        Some(id) => house.store.ticket(id).await.unwrap(),
        None => None,
    };
    let mails = post.mails.lock().clone();
    (reply, mails, facts.map(|ticket| ticket.facts))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_out_once_with_a_lasting_id() {
    let (reply, mails, _) = played(vec![], |_| {}).await;
    assert_eq!(reply.text("state"), "done", "{}", reply.json);
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert!(mail.contains("AUTH PLAIN"), "{mail}");
    assert!(mail.contains("MAIL FROM:<robot@example.com>"), "{mail}");
    assert!(mail.contains("RCPT TO:<ann@example.com>"), "{mail}");
    assert!(mail.contains("RCPT TO:<bob@example.com>"), "{mail}");
    let result = &reply.json["result"];
    assert_eq!(result["body"], "taken as 42");
    let id = result["headers"]["message-id"].as_str().unwrap();
    assert!(mail.contains(&format!("Message-ID: {id}\r\n")), "{mail}");
    // A line with a dot alone ends a message: ours is doubled.
    assert!(mail.contains("one\r\n..\r\ntwo"), "{mail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_text_did_not_happen() {
    for (word, odd, state) in [
        ("greeting", Odd::Say("421 not now"), "done"),
        ("greeting", Odd::Close, "done"),
        ("EHLO", Odd::Close, "done"),
        ("AUTH", Odd::Say("454 not now"), "done"),
        ("MAIL", Odd::Say("451 not now"), "done"),
        ("RCPT", Odd::Say("450 not now"), "done"),
        ("DATA", Odd::Say("452 not now"), "done"),
        ("DATA", Odd::Close, "done"),
        (".", Odd::Say("451 not now"), "done"),
        ("MAIL", Odd::Say("553 never"), "failed"),
        ("RCPT", Odd::Say("550 never"), "failed"),
        ("DATA", Odd::Say("554 never"), "failed"),
        (".", Odd::Say("554 never"), "failed"),
    ] {
        let (reply, mails, _) = played(vec![(word, odd)], |_| {}).await;
        let shown = format!("{word} {odd:?}: {}", reply.json);
        assert_eq!(reply.text("state"), state, "{shown}");
        let attempts = if state == "done" { 2 } else { 1 };
        assert_eq!(reply.json["attempts"], attempts, "{shown}");
        let refused_texts = usize::from(word == ".");
        let taken = usize::from(state == "done");
        assert_eq!(mails.len(), refused_texts + taken, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_after_the_text_is_doubt() {
    let quick = |target: &mut Target| target.timeout = Duration::from_millis(300);
    for odd in [Odd::Close, Odd::Hang, Odd::Say("nonsense")] {
        let (reply, mails, facts) = played(vec![(".", odd)], quick).await;
        assert_eq!(reply.text("state"), "doubt", "{odd:?}: {}", reply.json);
        assert_eq!(mails.len(), 1, "{odd:?}");
        assert_eq!(facts.unwrap()["happened"], "unknown", "{odd:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_before_the_text_is_certain() {
    let quick = |target: &mut Target| {
        target.timeout = Duration::from_millis(300);
        target.attempts = 1;
    };
    for word in ["greeting", "RCPT", "DATA"] {
        let (reply, mails, facts) = played(vec![(word, Odd::Hang)], quick).await;
        assert_eq!((reply.text("state"), mails.len()), ("doubt", 0), "{word}");
        assert_eq!(facts.unwrap()["happened"], "no", "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_is_told_a_person() {
    let (reply, mails, facts) = played(
        vec![
            ("AUTH", Odd::Say("535 wrong")),
            ("AUTH", Odd::Say("535 wrong")),
        ],
        |_| {},
    )
    .await;
    assert_eq!((reply.text("state"), mails.len()), ("doubt", 0));
    assert_eq!(facts.unwrap()["happened"], "no");
    assert!(!reply.text("error").contains("password"), "{}", reply.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_over_tls_from_the_start_or_after_asking() {
    for starts_clear in [false, true] {
        let (server, trusted) = certificate();
        let post = Post::start(vec![], Some(server), starts_clear).await;
        let config = client_config(Some(trusted));
        let security = if starts_clear {
            Security::StartTls(config)
        } else {
            Security::Tls(config)
        };
        let (_dir, path) = dir();
        let house = House::open(&path, [post.target(security)]).await;
        let reply = house.post(MAIL).await.unwrap();
        assert_eq!(reply.text("state"), "done", "{}", reply.json);
        let mail = post.mails.lock()[0].clone();
        assert!(mail.contains("AUTH PLAIN"), "{mail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_or_with_a_stranger_nothing_is_said() {
    let (server, _) = certificate();
    let stranger = Post::start(vec![], Some(server), true).await;
    let strange = stranger.target(Security::StartTls(client_config(None)));
    let clear = Post::start(vec![], None, false).await;
    let plain = clear.target(Security::StartTls(client_config(None)));
    for (post, target) in [(stranger, strange), (clear, plain)] {
        let (_dir, path) = dir();
        let house = House::open(&path, [target]).await;
        let reply = house.post(MAIL).await.unwrap();
        assert_eq!(reply.text("state"), "doubt", "{}", reply.json);
        assert!(reply.text("error").contains("nothing was sent"));
        assert_eq!(post.mails.lock().len(), 0);
    }
}
