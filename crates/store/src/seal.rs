//! Content at rest: AES-256-GCM, where a key is configured.
//!
//! A kept value is one byte that says how, then the rest: `0` = as it is; else the id of the key, 12
//! bytes of nonce, the sealed bytes and their tag. The table and the row's id are bound in, so that a
//! value can't be moved to another row. Old keys open what they sealed; only the newest one seals.

use std::fmt::{self, Display};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use aws_lc_rs::rand;

use crate::error::{Error, Result};

/// The first byte of what is kept as it is.
const PLAIN: u8 = 0;

/// The keys that content is sealed and opened with.
#[derive(Clone)]
pub struct Seal {
    /// The first one seals.
    keys: Arc<Vec<(u8, LessSafeKey)>>,
}

impl Seal {
    /// Seals with `current`; opens what was sealed with it or with one of `old`.
    pub fn new(current: [u8; 32], old: &[[u8; 32]]) -> Self {
        let keys = std::iter::once(&current)
            .chain(old)
            .map(|key| (id_of(key), sealing_key(key)))
            .collect();
        Self {
            keys: Arc::new(keys),
        }
    }

    fn seal(&self, place: &[u8], content: &[u8]) -> Result<Vec<u8>> {
        let (id, key) = self
            .keys
            .first()
            .expect("invariant: a seal has its current key");
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| Error::Internal("no randomness".to_owned()))?;
        let mut out = Vec::with_capacity(1 + NONCE_LEN + content.len() + AES_256_GCM.tag_len());
        out.push(*id);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(content);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut out[1 + NONCE_LEN..],
            )
            .map_err(|_| Error::Internal("sealing failed".to_owned()))?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    fn open(&self, place: &[u8], id: u8, kept: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = kept.split_at_checked(NONCE_LEN)?;
        self.keys.iter().filter(|key| key.0 == id).find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut buffer = sealed.to_vec();
            let length = key
                .1
                .open_in_place(nonce, Aad::from(place), &mut buffer)
                .ok()?
                .len();
            buffer.truncate(length);
            Some(buffer)
        })
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} keys)", self.keys.len())
    }
}

/// What is written for `content`. `place` = the table and the row's id.
pub(crate) fn close(seal: Option<&Seal>, place: impl Display, content: &[u8]) -> Result<Vec<u8>> {
    if let Some(seal) = seal {
        return seal.seal(place.to_string().as_bytes(), content);
    }
    let mut kept = Vec::with_capacity(1 + content.len());
    kept.push(PLAIN);
    kept.extend_from_slice(content);
    Ok(kept)
}

/// The content of what was written.
pub(crate) fn open(seal: Option<&Seal>, place: impl Display, mut kept: Vec<u8>) -> Result<Vec<u8>> {
    match kept.first() {
        None => Err(Error::Corrupt(format!("a value in {place} is empty"))),
        Some(&PLAIN) => {
            kept.remove(0);
            Ok(kept)
        }
        Some(&id) => seal
            .and_then(|seal| seal.open(place.to_string().as_bytes(), id, &kept[1..]))
            .ok_or_else(|| {
                Error::Unavailable(
                    "a record is sealed with a key that is not configured (`store.encryption_key`, `store.old_keys`), or it was altered"
                        .to_owned(),
                )
            }),
    }
}

fn sealing_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("invariant: the key has 32 bytes"))
}

/// One byte of the key's digest, never [`PLAIN`]. Two keys with one id are told apart by their tags.
fn id_of(key: &[u8; 32]) -> u8 {
    digest::digest(&digest::SHA256, key).as_ref()[0].max(PLAIN + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_at_its_place_and_with_its_key() {
        let seal = Seal::new([1; 32], &[]);
        let kept = close(Some(&seal), "keys/a", b"canary").unwrap();
        assert!(!kept.windows(6).any(|part| part == b"canary"));
        assert_eq!(
            open(Some(&seal), "keys/a", kept.clone()).unwrap(),
            b"canary"
        );
        assert!(open(Some(&seal), "keys/b", kept.clone()).is_err());
        assert!(open(None, "keys/a", kept.clone()).is_err());
        let other = Seal::new([2; 32], &[]);
        assert!(open(Some(&other), "keys/a", kept.clone()).is_err());
        let rotated = Seal::new([2; 32], &[[1; 32]]);
        assert_eq!(
            open(Some(&rotated), "keys/a", kept.clone()).unwrap(),
            b"canary"
        );
        for at in 0..kept.len() {
            let mut altered = kept.clone();
            altered[at] ^= 1;
            let opened = open(Some(&seal), "keys/a", altered);
            assert!(opened.as_deref() != Ok(b"canary"), "byte {at}");
        }
    }

    #[test]
    fn without_a_key_content_is_kept_as_it_is() {
        let kept = close(None, "keys/a", b"text").unwrap();
        assert_eq!(kept, b"\0text");
        assert_eq!(open(None, "x", kept.clone()).unwrap(), b"text");
        assert_eq!(
            open(Some(&Seal::new([1; 32], &[])), "x", kept).unwrap(),
            b"text"
        );
        assert!(open(None, "x", Vec::new()).is_err());
        assert!(
            open(
                Some(&Seal::new([1; 32], &[])),
                "x",
                vec![id_of(&[1; 32]), 1]
            )
            .is_err()
        );
    }

    #[test]
    fn two_seals_of_one_text_differ() {
        let seal = Seal::new([1; 32], &[]);
        let once = close(Some(&seal), "a", b"text").unwrap();
        assert_ne!(once, close(Some(&seal), "a", b"text").unwrap());
        assert_eq!(format!("{seal:?}"), "Seal(1 keys)");
    }
}
