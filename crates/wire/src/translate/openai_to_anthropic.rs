//! Being written.

use super::{Refusal, Target, Translated};

pub(super) fn translate(_body: &[u8], _target: &Target<'_>) -> Result<Translated, Refusal> {
    Err(Refusal::Shape {
        path: String::new(),
        why: "not written yet".to_owned(),
    })
}
