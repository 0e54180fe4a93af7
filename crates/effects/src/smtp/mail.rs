//! What callers say of a mail, and the message made of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_core::time::Wall;
use lettre::Message;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::outgoing::hex;
use crate::path::matches_ignoring_case;
use crate::target::Smtp;

/// The most recipients of one mail.
const RECIPIENTS: usize = 50;
/// The longest subject, in bytes; with folding, what every server takes.
const SUBJECT: usize = 900;

/// The payload of a mail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    to: Recipients,
    subject: String,
    text: Option<String>,
    html: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Recipients {
    One(String),
    Many(Vec<String>),
}

/// A mail that may be sent.
#[derive(Debug)]
pub(crate) struct Mail {
    to: Vec<Mailbox>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
}

impl Mail {
    /// Checks a payload. The error says what is wrong.
    pub(crate) fn parse(body: &str, smtp: &Smtp) -> Result<Self, String> {
        let payload: Payload = serde_json::from_str(body).map_err(|error| {
            format!("a mail is {{\"to\", \"subject\", \"text\", \"html\"}}: {error}")
        })?;
        let to = match payload.to {
            Recipients::One(one) => vec![one],
            Recipients::Many(many) => many,
        };
        if to.is_empty() || to.len() > RECIPIENTS {
            return Err(format!("a mail has between 1 and {RECIPIENTS} recipients"));
        }
        let to = to.iter().map(|one| recipient(one, smtp));
        let Payload {
            subject,
            text,
            html,
            ..
        } = payload;
        if subject.len() > SUBJECT || subject.chars().any(char::is_control) {
            return Err(format!(
                "`subject` is one line of at most {SUBJECT} bytes without control characters"
            ));
        }
        if text.is_none() && html.is_none() {
            return Err("a mail has `text` or `html`, or both".to_owned());
        }
        Ok(Self {
            to: to.collect::<Result<_, _>>()?,
            subject,
            text,
            html,
        })
    }

    /// The whole message.
    pub(crate) fn message(self, smtp: &Smtp, id: &str, now: Wall) -> Result<Message, String> {
        let mut builder = Message::builder()
            .from(smtp.from.clone())
            .subject(self.subject)
            .message_id(Some(id.to_owned()))
            .date(moment(now));
        for to in self.to {
            builder = builder.to(to);
        }
        let message = match (self.text, self.html) {
            (Some(text), Some(html)) => {
                builder.multipart(MultiPart::alternative_plain_html(text, html))
            }
            (Some(text), None) => builder.singlepart(SinglePart::plain(text)),
            (None, html) => builder.singlepart(SinglePart::html(html.unwrap_or_default())),
        };
        message.map_err(|error| format!("the mail can't be written: {error}"))
    }
}

/// The same for every attempt of one effect.
pub(super) fn message_id(key: &str, smtp: &Smtp) -> String {
    let digest = hex(&Sha256::digest(key.as_bytes()));
    format!("<{}@{}>", &digest[..32], smtp.from.email.domain())
}

fn recipient(text: &str, smtp: &Smtp) -> Result<Mailbox, String> {
    let shown: String = text.chars().take(100).filter(|c| !c.is_control()).collect();
    let mailbox: Mailbox = text
        .parse()
        .map_err(|_| format!("`{shown}` is no mail address"))?;
    let address: &str = mailbox.email.as_ref();
    let is_allowed = smtp
        .allow_to
        .iter()
        .any(|pattern| matches_ignoring_case(pattern, address));
    if is_allowed {
        Ok(mailbox)
    } else {
        Err(format!("`{shown}` is no recipient that this target allows"))
    }
}

fn moment(now: Wall) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Security;

    fn smtp() -> Smtp {
        Smtp {
            host: "mail.example".into(),
            port: 587,
            security: Security::None,
            login: None,
            from: "Holdfast <robot@example.com>".parse().unwrap(),
            allow_to: vec!["*@example.com".into(), "boss@example.org".into()],
        }
    }

    #[test]
    fn a_mail_is_checked() {
        let long = "x".repeat(SUBJECT + 1);
        for (payload, complaint) in [
            ("[]".to_owned(), "a mail is"),
            ("\"hello\"".to_owned(), "a mail is"),
            (
                r#"{"to":"a@example.com","subject":"s","text":"t","bcc":"x@y.z"}"#.to_owned(),
                "bcc",
            ),
            (
                r#"{"to":[],"subject":"s","text":"t"}"#.to_owned(),
                "recipients",
            ),
            (
                r#"{"to":"a@example.com","subject":"s"}"#.to_owned(),
                "`text` or `html`",
            ),
            (
                r#"{"to":"a@example.org","subject":"s","text":"t"}"#.to_owned(),
                "allows",
            ),
            (
                r#"{"to":"a@example.com.evil.org","subject":"s","text":"t"}"#.to_owned(),
                "allows",
            ),
            (
                r#"{"to":"a@example.com, b@evil.org","subject":"s","text":"t"}"#.to_owned(),
                "no mail address",
            ),
            (
                r#"{"to":"a@example.com\r\nRCPT TO:<b@evil.org>","subject":"s","text":"t"}"#
                    .to_owned(),
                "no mail address",
            ),
            (
                r#"{"to":"a@example.com","subject":"s\r\nBcc: b@evil.org","text":"t"}"#.to_owned(),
                "one line",
            ),
            (
                format!(r#"{{"to":"a@example.com","subject":"{long}","text":"t"}}"#),
                "one line",
            ),
        ] {
            let error = Mail::parse(&payload, &smtp()).unwrap_err();
            assert!(error.contains(complaint), "{payload}: {error}");
        }
    }

    #[test]
    fn a_message_has_what_was_said_and_a_lasting_id() {
        let payload = r#"{"to":["Ann <ann@Example.com>","boss@example.org"],
            "subject":"Größe","text":"eins\n.\nzwei","html":"<p>eins</p>"}"#;
        let id = message_id("key-1", &smtp());
        assert_eq!(id, message_id("key-1", &smtp()));
        assert_ne!(id, message_id("key-2", &smtp()));
        let mail = Mail::parse(payload, &smtp()).unwrap();
        let message = mail.message(&smtp(), &id, Wall(1_700_000_000_000)).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(text.contains(&format!("Message-ID: {id}\r\n")), "{text}");
        assert!(
            text.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"),
            "{text}"
        );
        assert!(text.contains("multipart/alternative"), "{text}");
        assert_eq!(message.envelope().to().len(), 2);
    }
}
