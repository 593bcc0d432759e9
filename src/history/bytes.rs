//! Numbers and texts as bytes: what bodies, segments and roll-ups are written with.
//!
//! Reading trusts nothing: every length is held against what is left, and the end of the bytes is
//! `None`, never a panic.

use std::borrow::Cow;
use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// Writes to the end of a buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct Out(pub Vec<u8>);

impl Out {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Seven bits a byte, the lowest first.
    // Seven bits fit a byte.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A text that may be missing: its length and one, or zero.
    pub fn maybe_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.number(text.len() as u64 + 1);
                self.0.extend_from_slice(text.as_bytes());
            }
            None => self.number(0),
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A column: how many bytes its largest number takes, then the lowest byte of every number, then
    /// the next one of every number. Noise and silence stand apart that way, and zstd sees it. A
    /// column of equal numbers is that number.
    pub fn column(&mut self, numbers: &[u64]) {
        let Some(first) = numbers.first() else { return };
        if numbers.iter().all(|number| number == first) {
            self.byte(CONSTANT);
            self.number(*first);
            return;
        }
        let any = numbers.iter().fold(0, |any, number| any | number);
        let width = 8 - any.leading_zeros() as usize / 8;
        self.0.push(u8::try_from(width).unwrap_or(8));
        for plane in 0..width {
            self.0.extend(numbers.iter().map(|number| number.to_le_bytes()[plane]));
        }
    }

    /// A column whose numbers may be negative.
    pub fn signed_column(&mut self, numbers: impl Iterator<Item = i64>) {
        let numbers: Vec<u64> = numbers.map(zigzag).collect();
        self.column(&numbers);
    }
}

const CONSTANT: u8 = 0x80;

/// Reads from the front of a slice.
pub(super) struct In<'a>(pub &'a [u8]);

impl<'a> In<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn maybe_text(&mut self) -> Option<Option<&'a str>> {
        let Some(count) = self.number()?.checked_sub(1) else { return Some(None) };
        let bytes = self.take(usize::try_from(count).ok()?)?;
        std::str::from_utf8(bytes).ok().map(Some)
    }

    /// A column of so many numbers, which the caller has bounded.
    pub fn column(&mut self, count: usize) -> Option<Vec<u64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        let width = self.byte()?;
        if width == CONSTANT {
            return Some(vec![self.number()?; count]);
        }
        let width = usize::from(width);
        if width > 8 {
            return None;
        }
        let planes = self.take(count.checked_mul(width)?)?;
        let mut numbers = vec![0u64; count];
        for (plane, bytes) in planes.chunks_exact(count).enumerate() {
            for (number, byte) in numbers.iter_mut().zip(bytes) {
                *number |= u64::from(*byte) << (8 * plane);
            }
        }
        Some(numbers)
    }

    pub fn signed_column(&mut self, count: usize) -> Option<Vec<i64>> {
        Some(self.column(count)?.into_iter().map(unzigzag).collect())
    }

    /// `None` when something is left.
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Small numbers of either sign become small numbers.
// The bits are meant.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

// The bits are meant.
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

// To make one costs more than to pack an hour with it.
thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// More than any body of ours unpacks to.
const LARGEST: usize = 64 << 20;

/// Packed with zstd where that makes it smaller, its length in front.
pub(super) fn pack(plain: &[u8], level: i32) -> Vec<u8> {
    packed(plain, level, plain.len().saturating_sub(1))
}

/// The same for what is read by the thousand: only where it becomes half as large.
pub(super) fn pack_to_half(plain: &[u8], level: i32) -> Vec<u8> {
    packed(plain, level, plain.len() / 2)
}

fn packed(plain: &[u8], level: i32, most: usize) -> Vec<u8> {
    let mut out = Out::default();
    out.number(plain.len() as u64);
    // It fails when memory does; what cannot be packed is kept as it is, behind a longer length.
    let packed = COMPRESSOR.with_borrow_mut(|kept| {
        let packer = match kept {
            Some(packer) => packer,
            None => kept.insert(Compressor::new(level)?),
        };
        packer.set_compression_level(level)?;
        packer.compress(plain)
    });
    match packed {
        Ok(packed) if packed.len() <= most => out.0.extend_from_slice(&packed),
        _ => out.0.extend_from_slice(plain),
    }
    out.0
}

pub(super) fn unpack(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut input = In(bytes);
    let plain = usize::try_from(input.number()?).ok().filter(|plain| *plain <= LARGEST)?;
    if input.0.len() == plain {
        return Some(Cow::Borrowed(input.0));
    }
    let unpacked = DECOMPRESSOR.with_borrow_mut(|kept| {
        let unpacker = match kept {
            Some(unpacker) => unpacker,
            None => kept.insert(Decompressor::new()?),
        };
        unpacker.decompress(input.0, plain)
    });
    unpacked.ok().filter(|unpacked| unpacked.len() == plain).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            numbers in prop::collection::vec(any::<u64>(), 0..50),
            signed in prop::collection::vec(any::<i64>(), 0..50),
            small in prop::collection::vec(0u64..300, 0..50),
            text in prop::option::of(".{0,20}"),
        ) {
            let mut out = Out::default();
            out.column(&numbers);
            out.signed_column(signed.iter().copied());
            out.column(&small);
            for number in &numbers {
                out.number(*number);
            }
            out.maybe_text(text.as_deref());
            let packed = pack(&out.0, 3);
            let plain = unpack(&packed).unwrap();
            let mut input = In(&plain);
            prop_assert_eq!(input.column(numbers.len()).unwrap(), &numbers[..]);
            prop_assert_eq!(input.signed_column(signed.len()).unwrap(), signed);
            prop_assert_eq!(input.column(small.len()).unwrap(), small);
            for number in &numbers {
                prop_assert_eq!(input.number().unwrap(), *number);
            }
            prop_assert_eq!(input.maybe_text().unwrap(), text.as_deref());
            prop_assert!(input.end().is_some());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = unpack(&bytes);
            let mut input = In(&bytes);
            let _ = (input.number(), input.column(3), input.maybe_text(), input.signed_column(9));
        }
    }
}
