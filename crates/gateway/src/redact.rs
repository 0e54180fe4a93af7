//! Takes out of a vendor's words what nobody else may read.
//!
//! Some vendors and servers quote the credential that they refuse, and some quote a part of the
//! request that they reject. It finds secrets that the call itself knows of, and no others.

use std::borrow::Cow;

use bytes::Bytes;
use holdfast_config::checked::Auth;
use holdfast_core::fault::Fault;

use crate::admit::{Call, presented};

/// What stands in a secret's place.
const MASK: &str = "***";
/// A shorter secret would be found in words by chance.
const SHORTEST: usize = 8;
/// The most of a vendor's words that the ledger remembers, in characters.
const REMEMBERED: usize = 300;

/// A fault for the caller: without the gateway's keys.
pub(crate) fn fault(call: &Call, fault: &mut Fault) {
    if let Cow::Owned(message) = text(call, &fault.message) {
        fault.message = message;
    }
    if let Some(vendor) = &mut fault.vendor
        && let Ok(body) = std::str::from_utf8(&vendor.body)
        && let Cow::Owned(body) = text(call, body)
    {
        vendor.body = Bytes::from(body);
    }
}

/// An attempt's message for the ledger: without keys, bounded, and without the words of a vendor that
/// rejects the request, which may quote it.
pub(crate) fn remembered(call: &Call, status: u16, message: &str) -> String {
    let kept = match status {
        400 | 405..=407 | 410..=428 | 430..=499 => message.split(": ").next().unwrap_or_default(),
        _ => message,
    };
    text(call, kept).chars().take(REMEMBERED).collect()
}

fn text<'a>(call: &Call, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets(call) {
        if secret.len() >= SHORTEST && text.contains(secret) {
            text = Cow::Owned(text.replace(secret, MASK));
        }
    }
    text
}

/// The credentials that any target of the call may have been sent.
fn secrets(call: &Call) -> impl Iterator<Item = &str> {
    let config = &call.snapshot.config;
    let targets = &config.routes[call.route].targets;
    let providers = call
        .targets
        .iter()
        .map(|place| config.provider(&targets[*place]));
    let held = providers.flat_map(|provider| {
        let key = match &provider.auth {
            Auth::Key(key) => Some(key),
            Auth::Caller | Auth::None => None,
        };
        let headers = provider.headers.iter().map(|(_, value)| value);
        key.into_iter()
            .chain(headers)
            .map(holdfast_config::Secret::expose)
    });
    held.chain(presented(&call.headers))
}
