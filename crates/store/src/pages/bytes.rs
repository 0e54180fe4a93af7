//! The smallest parts of a page: numbers of seven bits a byte, texts with their length before them.
//!
//! Reading trusts nothing: what is damaged is told, and no length is believed before it was compared
//! with what there is.

use crate::error::{Error, Result};

/// What is written to.
pub(super) trait Put {
    fn number(&mut self, number: u64);
    fn opt_number(&mut self, number: Option<u64>);
    fn text(&mut self, text: &str);
    fn opt_text(&mut self, text: Option<&str>);
}

impl Put for Vec<u8> {
    #[inline]
    fn number(&mut self, number: u64) {
        if number < 0x80 {
            self.push(lowest(number));
        } else {
            long_number(self, number);
        }
    }

    fn opt_number(&mut self, number: Option<u64>) {
        self.push(number.is_some().into());
        if let Some(number) = number {
            self.number(number);
        }
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn opt_text(&mut self, text: Option<&str>) {
        self.push(text.is_some().into());
        if let Some(text) = text {
            self.text(text);
        }
    }
}

/// Most numbers are lengths of words.
fn long_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(lowest(number) | 0x80);
        number >>= 7;
    }
    bytes.push(lowest(number));
}

const fn lowest(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

pub(super) fn damaged(what: &str) -> Error {
    Error::Corrupt(format!("a page of the ledger {what}"))
}

impl<'a> Rest<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(damaged("has a flag that is neither yes nor no")),
        }
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T> {
        let large = || damaged("has a number that is too large");
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(large());
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return T::try_from(number).map_err(|_| large());
            }
        }
        Err(large())
    }

    pub(super) fn opt_number(&mut self) -> Result<Option<u64>> {
        self.flag()?.then(|| self.number()).transpose()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| damaged("ends too soon"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        let length = self.number()?;
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|_| damaged("has a text that is none"))
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<&'a str>> {
        self.flag()?.then(|| self.text()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            bytes.number(number);
            bytes.opt_number(Some(number));
            bytes.opt_number(None);
            let mut rest = Rest(&bytes);
            assert_eq!(rest.number::<u64>(), Ok(number));
            assert_eq!(rest.opt_number(), Ok(Some(number)));
            assert_eq!(rest.opt_number(), Ok(None));
            assert!(rest.is_empty());
        }
        let too_large = [0xff; 12];
        assert!(Rest(&too_large).number::<u64>().is_err());
        let mut more_than_64_bits = [0xff; 10];
        more_than_64_bits[9] = 2;
        assert!(Rest(&more_than_64_bits).number::<u64>().is_err());
        assert!(Rest(&[0x80, 0x80, 4]).number::<u16>().is_err());
    }
}
