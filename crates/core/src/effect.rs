//! What follows from one attempt to perform a side effect: done, failed, again, or a person decides.
//!
//! The rule behind every arm of [`after`]: an effect is sent again only if it is certain that it did
//! not happen, or if the target honours idempotency keys and so makes a second sending harmless. All
//! else is *in doubt*. Time and dice are arguments; sending and storing happen elsewhere. The crash
//! windows around this decision are listed in `docs/effects.md`.

use std::time::Duration;

use crate::backoff::Backoff;

/// The longest wait that a target's `Retry-After` can ask for.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What is known after one attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sent {
    /// No byte of the request left: name lookup, address check, connect or TLS failed; or the target
    /// said itself, in words of its protocol, that it took nothing and may be asked later.
    NotSent(String),
    /// The target said, in words of its protocol, that it took nothing and never will; or nothing can
    /// be sent at all any more because the configuration no longer allows it.
    Refused(String),
    /// A whole HTTP-like answer.
    Answered {
        status: u16,
        /// The target's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A byte had left and no whole answer came: timeout, cut, unreadable.
    Lost(String),
}

/// What is known of a target and of the attempts so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Whether the target performs a request once for each idempotency key.
    pub honours_keys: bool,
    /// Attempts so far, this one included: 1 after the first.
    pub attempts: u32,
    /// The most attempts; 0 is read as 1.
    pub limit: u32,
    pub backoff: Backoff,
}

/// Whether the effect may have taken place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happened {
    /// Certainly not.
    No,
    /// Nobody here can know.
    Perhaps,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// It happened; the result is stored.
    Done,
    /// The target refused it; it did not happen and nothing is sent again.
    Failed,
    /// Send it again, under the same key.
    Retry { after: Duration },
    /// Never sent again by the machine: a ticket, and a person decides.
    Doubt(Happened),
}

/// What an attempt means before the attempts are counted.
enum Meaning {
    Done,
    Failed,
    /// Harmless to repeat.
    Again(Happened, Option<Duration>),
    /// Not harmless to repeat.
    Doubt,
}

/// Decides after an attempt. `dice` is evenly spread over all `u64`.
pub fn after(sent: &Sent, terms: Terms, dice: u64) -> Next {
    match meaning(sent, terms.honours_keys) {
        Meaning::Done => Next::Done,
        Meaning::Failed => Next::Failed,
        Meaning::Doubt => Next::Doubt(Happened::Perhaps),
        Meaning::Again(happened, _) if terms.attempts >= terms.limit.max(1) => {
            Next::Doubt(in_all(happened, terms))
        }
        Meaning::Again(_, asked) => Next::Retry {
            after: wait(terms, asked, dice),
        },
    }
}

/// Decides for an effect whose owner died while it was being sent: nobody knows how far it came.
/// A target that honours keys is asked again at once, whatever the count: this is how the result is
/// heard, and the attempt that finds no answer counts.
pub fn stranded(honours_keys: bool) -> Next {
    if honours_keys {
        Next::Retry {
            after: Duration::ZERO,
        }
    } else {
        Next::Doubt(Happened::Perhaps)
    }
}

fn meaning(sent: &Sent, honours_keys: bool) -> Meaning {
    match sent {
        Sent::NotSent(_) => Meaning::Again(Happened::No, None),
        Sent::Refused(_) => Meaning::Failed,
        Sent::Lost(_) => perhaps(honours_keys, None),
        Sent::Answered {
            status,
            retry_after,
        } => match status {
            200..=299 => Meaning::Done,
            // Redirects are not followed: the address behind one was checked by nobody.
            300..=399 => Meaning::Failed,
            429 => Meaning::Again(Happened::No, *retry_after),
            // A proxy can give up waiting (408) after the effect took place.
            408 => perhaps(honours_keys, *retry_after),
            // "In progress under this key" (draft-ietf-httpapi-idempotency-key-header, 2.7), too early.
            409 | 425 if honours_keys => Meaning::Again(Happened::Perhaps, *retry_after),
            400..=499 => Meaning::Failed,
            // A proxy answers 502 or 504 after the effect took place, and a server 500 in its midst.
            500..=599 => perhaps(honours_keys, *retry_after),
            // No status of HTTP: whoever answered is not what the configuration means.
            _ => perhaps(honours_keys, None),
        },
    }
}

fn perhaps(honours_keys: bool, retry_after: Option<Duration>) -> Meaning {
    if honours_keys {
        Meaning::Again(Happened::Perhaps, retry_after)
    } else {
        Meaning::Doubt
    }
}

/// Over all attempts. A target that does not honour keys is only ever asked again after what
/// certainly did not happen, so its last attempt speaks for all; with keys, an earlier one may have
/// been lost.
fn in_all(last: Happened, terms: Terms) -> Happened {
    if terms.honours_keys && terms.attempts > 1 {
        Happened::Perhaps
    } else {
        last
    }
}

fn wait(terms: Terms, asked: Option<Duration>, dice: u64) -> Duration {
    let own = terms.backoff.wait(terms.attempts.saturating_sub(1), dice);
    match asked {
        Some(asked) => own.max(asked.min(LONGEST_RETRY_AFTER)),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms(honours_keys: bool, attempts: u32) -> Terms {
        Terms {
            honours_keys,
            attempts,
            limit: 3,
            backoff: Backoff {
                base: SECOND,
                cap: SECOND * 8,
            },
        }
    }

    fn answered(status: u16) -> Sent {
        Sent::Answered {
            status,
            retry_after: None,
        }
    }

    /// In one letter: done, failed, again, in doubt.
    fn letter(next: Next) -> char {
        match next {
            Next::Done => 'd',
            Next::Failed => 'f',
            Next::Retry { .. } => 'r',
            Next::Doubt(Happened::Perhaps) => '?',
            Next::Doubt(Happened::No) => 'n',
        }
    }

    #[test]
    fn the_table() {
        let lost = Sent::Lost("cut".into());
        let not_sent = Sent::NotSent("refused".into());
        let refused = Sent::Refused("550".into());
        // (what was heard, with keys, without, the last attempt with keys, the last without)
        let table = [
            (answered(200), "dddd"),
            (answered(204), "dddd"),
            (answered(299), "dddd"),
            (answered(301), "ffff"),
            (answered(307), "ffff"),
            (answered(400), "ffff"),
            (answered(401), "ffff"),
            (answered(404), "ffff"),
            (answered(422), "ffff"),
            (answered(408), "r???"),
            (answered(409), "rf?f"),
            (answered(425), "rf?f"),
            (answered(429), "rr?n"),
            (answered(500), "r???"),
            (answered(502), "r???"),
            (answered(503), "r???"),
            (answered(504), "r???"),
            (answered(101), "r???"),
            (answered(0), "r???"),
            (answered(999), "r???"),
            (lost, "r???"),
            (not_sent, "rr?n"),
            (refused, "ffff"),
        ];
        for (sent, expected) in table {
            let found: String = [(true, 1), (false, 1), (true, 3), (false, 3)]
                .map(|(keys, attempts)| letter(after(&sent, terms(keys, attempts), 7)))
                .iter()
                .collect();
            assert_eq!(found, expected, "{sent:?}");
        }
    }

    #[test]
    fn one_attempt_that_never_left_is_certain_with_keys_too() {
        let once = Terms {
            limit: 1,
            ..terms(true, 1)
        };
        let next = after(&Sent::NotSent("refused".into()), once, 0);
        assert_eq!(next, Next::Doubt(Happened::No));
    }

    #[test]
    fn a_retry_after_is_obeyed_within_bounds() {
        let asked = |seconds| Sent::Answered {
            status: 429,
            retry_after: Some(SECOND * seconds),
        };
        let waits = |seconds| after(&asked(seconds), terms(false, 1), 0);
        assert_eq!(
            waits(0),
            Next::Retry {
                after: Duration::ZERO
            }
        );
        assert_eq!(waits(30), Next::Retry { after: SECOND * 30 });
        let most = LONGEST_RETRY_AFTER;
        assert_eq!(waits(1_000_000), Next::Retry { after: most });
    }

    #[test]
    fn what_a_dead_owner_left_is_sent_again_only_under_a_key_that_counts() {
        assert_eq!(letter(stranded(true)), 'r');
        assert_eq!(letter(stranded(false)), '?');
    }

    fn any_sent() -> impl Strategy<Value = Sent> {
        prop_oneof![
            Just(Sent::NotSent(String::new())),
            Just(Sent::Refused(String::new())),
            Just(Sent::Lost(String::new())),
            (any::<u16>(), proptest::option::of(0_u64..100_000)).prop_map(|(status, after)| {
                Sent::Answered {
                    status,
                    retry_after: after.map(Duration::from_secs),
                }
            }),
        ]
    }

    proptest! {
        /// A target that does not honour keys gets a second request only after certainly nothing
        /// happened.
        #[test]
        fn no_second_sending_without_certainty(sent in any_sent(), attempts in 1_u32..9, dice: u64) {
            let next = after(&sent, terms(false, attempts), dice);
            if matches!(next, Next::Retry { .. }) {
                let certain = matches!(
                    sent,
                    Sent::NotSent(_) | Sent::Answered { status: 429, .. }
                );
                prop_assert!(certain, "{sent:?}");
            }
        }

        /// Attempts end, waits are bounded, and only a success is called one.
        #[test]
        fn it_ends(sent in any_sent(), keys: bool, attempts in 1_u32..9, dice: u64) {
            let next = after(&sent, terms(keys, attempts), dice);
            let success = matches!(sent, Sent::Answered { status: 200..=299, .. });
            prop_assert_eq!(next == Next::Done, success);
            if let Next::Retry { after } = next {
                prop_assert!(attempts < 3);
                prop_assert!(after <= LONGEST_RETRY_AFTER.max(SECOND * 8));
            }
        }

        /// Nothing is called certain that may have happened.
        #[test]
        fn certainty_is_never_claimed_of_what_was_lost(
            sent in any_sent(),
            keys: bool,
            attempts in 1_u32..9,
            dice: u64,
        ) {
            if after(&sent, terms(keys, attempts), dice) == Next::Doubt(Happened::No) {
                let never_left = matches!(
                    sent,
                    Sent::NotSent(_) | Sent::Answered { status: 429, .. }
                );
                prop_assert!(never_left);
            }
        }
    }
}
