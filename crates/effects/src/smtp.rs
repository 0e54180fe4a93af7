//! One message to a mail server, and exactly what is known afterwards.
//!
//! lettre writes the message and speaks the protocol; the connection, its address check and its TLS
//! are ours. Until the server has asked for the message's text (354) no failure can mean that mail
//! went out; after it only a clear refusal can mean that none did. A receiver that knows `Message-ID`s
//! may drop a copy, but none has to: mail servers do not honour keys.

mod greeted;
mod mail;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_core::effect::Sent;
use holdfast_store::EffectResult;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use lettre::{Address, Message};
use secrecy::ExposeSecret as _;

use crate::connect::{self, Place, Resolve};
use crate::failpoint::{AFTER_SEND, Failpoint};
use crate::send::{Attempt, Outcome};
use crate::target::{Security, Smtp, Target};
use greeted::Greeted;
pub(crate) use mail::Mail;

/// For the goodbye, when everything is known already.
const QUIT: Duration = Duration::from_secs(2);

/// Where an attempt failed decides what that means.
enum Failure {
    /// Before anything of this message was said: the server may be fine tomorrow.
    Before(String),
    /// The server answered sender, recipients or `DATA`; the text was not sent.
    Envelope(lettre::transport::smtp::Error),
    /// The text was on its way.
    Text(lettre::transport::smtp::Error),
}

/// Performs one attempt. Ends within the target's timeout.
pub(crate) async fn send(
    target: &Target,
    smtp: &Smtp,
    attempt: &Attempt<'_>,
    resolve: &Resolve,
    failpoint: &Failpoint,
) -> Outcome {
    let message_id = mail::message_id(attempt.key, smtp);
    let message = Mail::parse(&attempt.outgoing.body, smtp)
        .and_then(|mail| mail.message(smtp, &message_id, attempt.now));
    let message = match message {
        Ok(message) => message,
        Err(reason) => return Outcome::bare(Sent::Refused(reason)),
    };
    let is_text_sent = AtomicBool::new(false);
    let dialogue = async {
        let mut connection = open(target, smtp, resolve).await?;
        (attempt.confirm)().await.map_err(Failure::Before)?;
        let reply = deliver(&mut connection, &message, &is_text_sent, failpoint).await;
        if reply.is_ok() {
            // The reply is what counts; whether the server hears the goodbye does not.
            let _ = tokio::time::timeout(QUIT, connection.quit()).await;
        }
        reply
    };
    match tokio::time::timeout(target.timeout, dialogue).await {
        Ok(Ok(reply)) => accepted(&reply, message_id),
        Ok(Err(failure)) => Outcome::bare(failure.meaning()),
        Err(_) => {
            let reason = format!("no answer within {:?}", target.timeout);
            Outcome::bare(if is_text_sent.load(Ordering::Acquire) {
                Sent::Lost(reason)
            } else {
                Sent::NotSent(reason)
            })
        }
    }
}

fn accepted(reply: &Response, message_id: String) -> Outcome {
    let status = reply.code().into();
    Outcome {
        sent: Sent::Answered {
            status,
            retry_after: None,
        },
        result: Some(EffectResult {
            status,
            headers: vec![("message-id".to_owned(), message_id)],
            body: reply.message().collect::<Vec<_>>().join("\n").into_bytes(),
        }),
    }
}

/// Connects, protects the connection, says hello and logs in.
async fn open(
    target: &Target,
    smtp: &Smtp,
    resolve: &Resolve,
) -> Result<AsyncSmtpConnection, Failure> {
    let place = Place {
        host: &smtp.host,
        port: smtp.port,
        allow_private: target.allow_private,
    };
    let tcp = connect::tcp(place, resolve).await.map_err(before)?;
    let hello = match tcp.local_addr().map_err(before)?.ip() {
        std::net::IpAddr::V4(ip) => ClientId::Ipv4(ip),
        std::net::IpAddr::V6(ip) => ClientId::Ipv6(ip),
    };
    let stream = match &smtp.security {
        Security::None => Greeted::by_server(tcp),
        Security::Tls(config) => {
            let peer = tcp.peer_addr().map_err(before)?;
            let stream = connect::tls(tcp, &smtp.host, config)
                .await
                .map_err(before)?;
            Greeted::secured(stream, peer)
        }
        Security::StartTls(config) => greeted::start_tls(tcp, &smtp.host, config, &hello)
            .await
            .map_err(before)?,
    };
    let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello)
        .await
        .map_err(before)?;
    if let Some((user, password)) = &smtp.login {
        let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            .map_err(before)?;
    }
    Ok(connection)
}

/// Sender, recipients, text. A single refused recipient refuses the message: half of a list of
/// recipients is half an effect.
async fn deliver(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    is_text_sent: &AtomicBool,
    failpoint: &Failpoint,
) -> Result<Response, Failure> {
    let envelope = message.envelope();
    let text = message.formatted();
    let mut parameters = Vec::new();
    if envelope
        .to()
        .iter()
        .chain(envelope.from())
        .any(|one| !is_ascii(one))
    {
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !text.is_ascii()
        && connection
            .server_info()
            .supports_feature(Extension::EightBitMime)
    {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let from = MailFrom::new(envelope.from().cloned(), parameters);
    connection.command(from).await.map_err(Failure::Envelope)?;
    for to in envelope.to() {
        let to = Rcpt::new(to.clone(), Vec::new());
        connection.command(to).await.map_err(Failure::Envelope)?;
    }
    connection.command(Data).await.map_err(Failure::Envelope)?;
    is_text_sent.store(true, Ordering::Release);
    failpoint.reached(AFTER_SEND);
    connection.message(&text).await.map_err(Failure::Text)
}

fn is_ascii(address: &Address) -> bool {
    let text: &str = address.as_ref();
    text.is_ascii()
}

fn before(error: impl std::error::Error) -> Failure {
    Failure::Before(words(&error))
}

impl Failure {
    fn meaning(&self) -> Sent {
        match self {
            Self::Before(reason) => Sent::NotSent(reason.clone()),
            Self::Envelope(error) if error.is_permanent() => Sent::Refused(words(error)),
            Self::Envelope(error) => Sent::NotSent(words(error)),
            Self::Text(error) if error.is_permanent() => Sent::Refused(words(error)),
            Self::Text(error) if error.is_transient() => Sent::NotSent(words(error)),
            Self::Text(error) => Sent::Lost(words(error)),
        }
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
