//! The hashes of keys and names: fixed, so that every gateway with the same nodes sends a key to the same one.
//!
//! Keys are mostly numbered (`user-17`, `10.0.0.17`, `/item/17`), and a hash that scatters
//! neighbours by chance spreads 180 of them over three nodes no better than dice would: by plus or minus 20 % in
//! four of five cases only. So a run of digits goes in as the number that it is, times an odd constant: consecutive
//! keys then lie at even distances on the ring. All else goes in scrambled. [`super::chash`] has the figures.

use std::collections::HashMap;

/// 2^64 divided by the golden ratio.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// What a number in a key moves it by: two thirds of a 160th of the ring. Found by search over 1,000 steps, together
/// with the placement of the points in [`super::chash`]: three neighbours then lie in a stratum and in its mirror.
const STEP: u64 = 0x0111_148F_D9FD_36F1;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
/// Where hashes begin: of 400 numbers the one that spreads best over three neighbouring ports such as 8081 to 8083.
const START: u64 = 0xCE55_8599_40C3_6EC0;
/// Digits that make one number: they fit 64 bits.
const DIGITS_MAX: usize = 18;

/// SplitMix64's finish: every bit depends on every bit.
#[inline]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A hash as an index below `end`; 0 if `end` is 0.
#[inline]
pub fn below(hash: u64, end: usize) -> usize {
    ((u128::from(hash) * end as u128) >> 64) as usize
}

/// The hash of a node's name: FNV-1a, scrambled.
pub fn name(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    mix(mix((hash ^ bytes.len() as u64).wrapping_add(GOLDEN)))
}

/// The hashes of names, each another: a name that stands twice counts as two nodes.
pub fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<u64> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let hashes = names.map(|text| {
        let first = name(text.as_bytes());
        let times = seen.entry(first).or_insert(0);
        *times += 1;
        first.wrapping_add((*times - 1).wrapping_mul(GOLDEN))
    });
    hashes.collect()
}

/// Where a key lies on the ring, of 2^64.
pub fn key(bytes: &[u8]) -> u64 {
    let mut state = START;
    let mut numbers = 0_u64;
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if !first.is_ascii_digit() {
            state = (state ^ u64::from(*first)).wrapping_mul(FNV_PRIME);
            rest = after;
            continue;
        }
        let mut number = 0_u64;
        let mut digits = 0;
        while let Some((digit @ b'0'..=b'9', after)) = rest.split_first() {
            if digits == DIGITS_MAX {
                break;
            }
            number = number * 10 + u64::from(digit - b'0');
            digits += 1;
            rest = after;
        }
        // The last number moves it by the step, those before it by others.
        numbers = numbers.wrapping_mul(GOLDEN).wrapping_add(number.wrapping_mul(STEP));
        state = (state ^ 0xFF).wrapping_mul(FNV_PRIME);
    }
    mix(state.wrapping_add(GOLDEN)).wrapping_add(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_steps_and_words_are_not() {
        let step = |a: &str, b: &str| key(b.as_bytes()).wrapping_sub(key(a.as_bytes()));
        assert_eq!(step("user-1", "user-2"), STEP);
        assert_eq!(step("user-9", "user-10"), STEP);
        assert_eq!(step("10.0.0.7", "10.0.0.8"), STEP);
        assert_eq!(step("a1b2", "a2b2"), step("a2b2", "a3b2"));
        assert_ne!(step("a", "b"), step("b", "c"));
        assert_ne!(key(b""), key(b"0"));
        assert_ne!(key(b"a1b"), key(b"ab1"));
        assert_ne!(key(b"1.2"), key(b"2.1"));
        assert_ne!(key(&[b'9'; 40]), key(&[b'9'; 41]));
        // Fixed for ever: another value would move every key of every user at an update.
        assert_eq!(
            (key(b"user-1"), name(b"127.0.0.1:80")),
            (6_863_469_410_249_125_230, 2_087_691_337_946_521_668)
        );
    }
}
