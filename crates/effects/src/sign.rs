//! Signatures as Standard Webhooks has them, so that a receiver checks them with its library.
//!
//! `HMAC-SHA256(secret, "<id>.<seconds>.<body>")`, base64, behind `v1,`. The id stays the same however
//! often one effect is sent; see <https://github.com/standard-webhooks/standard-webhooks>.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::time::Wall;

/// What a secret in base64 begins with.
const PREFIX: &str = "whsec_";
/// The shortest secret, in bytes; Standard Webhooks asks for 24.
pub const SHORTEST_SECRET: usize = 16;

/// A secret to sign with. Never shown.
#[derive(Clone)]
pub struct Signer(hmac::Key);

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    #[error("what follows `whsec_` is not base64")]
    NotBase64,
    #[error("a signing secret has at least {SHORTEST_SECRET} bytes")]
    Short,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// From `whsec_` and base64, or from any other text as it is.
    pub fn new(secret: &str) -> Result<Self, SecretError> {
        let bytes = match secret.strip_prefix(PREFIX) {
            Some(text) => STANDARD.decode(text).map_err(|_| SecretError::NotBase64)?,
            None => secret.as_bytes().to_vec(),
        };
        if bytes.len() < SHORTEST_SECRET {
            return Err(SecretError::Short);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The three headers of a message.
    pub(crate) fn headers(&self, id: &str, at: Wall, body: &[u8]) -> [(&'static str, String); 3] {
        let seconds = at.0.div_euclid(1000);
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        let signature = STANDARD.encode(context.sign());
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", format!("v1,{signature}")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks reference libraries.
    #[test]
    fn signs_as_the_reference_does() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = signer.headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Wall(1_614_265_330_999),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(
            headers[2].1,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_is_checked_and_hidden() {
        assert_eq!(Signer::new("short").unwrap_err(), SecretError::Short);
        assert_eq!(Signer::new("whsec_!").unwrap_err(), SecretError::NotBase64);
        assert_eq!(Signer::new("whsec_YQ==").unwrap_err(), SecretError::Short);
        let signer = Signer::new("a secret of many letters").unwrap();
        assert_eq!(format!("{signer:?}"), "Signer(..)");
    }
}
