//! Recovery codes: each signs in once, in place of a password that is lost.

use countersign_audit::{Hash, sha256};
use countersign_gate::Entropy;
use subtle::ConstantTimeEq as _;

/// An account has so many codes at first: enough to lose some, and to fit on a slip of paper.
const CODES: usize = 10;

/// A code has so many random bytes: 80 bits, so that what is kept of it need not be slow to compute.
const CODE_BYTES: usize = 10;

/// Each character of a code stands for five bits.
const CODE_CHARS: usize = 16;

/// The alphabet of codes: Crockford's base 32 in lower case, without letters that read like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes fresh codes, in groups of four: `7k2m-9xq4-0abc-zz19`.
pub(super) fn new_codes(entropy: &dyn Entropy) -> Vec<String> {
    (0..CODES).map(|_| new_code(entropy.bytes())).collect()
}

fn new_code(random: [u8; 16]) -> String {
    let bits = random.iter().take(CODE_BYTES).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let digit = |place: usize| {
        let value = bits.checked_shr(u32::try_from(place.saturating_mul(5)).unwrap_or(0)).unwrap_or(0) & 31;
        ALPHABET.get(usize::try_from(value).unwrap_or(0)).map_or('0', |byte| char::from(*byte))
    };
    let mut code = String::with_capacity(CODE_CHARS.saturating_add(3));
    for place in 0..CODE_CHARS {
        if place > 0 && place.is_multiple_of(4) {
            code.push('-');
        }
        code.push(digit(place));
    }
    code
}

/// Returns what is kept of a code.
pub(super) fn hash(code: &str) -> Hash {
    sha256(plain(code).as_bytes())
}

/// Returns which of these codes is presented, if one is. Each is compared, in constant time.
pub(super) fn find(presented: &str, kept: &[Hash]) -> Option<Hash> {
    // What cannot be a code is not taken apart: a password may be long.
    let presented = hash(if presented.len() <= 64 { presented } else { "" });
    kept.iter().fold(None, |found, code| {
        if bool::from(code.as_bytes().ct_eq(presented.as_bytes())) { Some(*code) } else { found }
    })
}

/// A code as it is meant, however it was typed: groups and case are for the eye.
fn plain(code: &str) -> String {
    let chars = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    chars
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_however_it_is_typed() {
        let code = new_code(*b"\x00\x44\x32\x14\xc7\x42\x54\xb6\x35\xcf......");
        assert_eq!(code.len(), 19, "{code}");
        let kept = [hash("zzzz-zzzz-zzzz-zzzz"), hash(&code)];
        for typed in [code.clone(), code.to_uppercase(), code.replace('-', " "), code.replace('0', "O")] {
            assert_eq!(find(&typed, &kept), Some(kept[1]), "{typed}");
        }
        assert_eq!(find(code.get(1..).unwrap(), &kept), None);
        assert_eq!(find("", &kept), None);
        assert_eq!(find(&code, &[]), None);
    }

    #[test]
    fn every_random_bit_is_in_a_code() {
        let zero = new_code([0; 16]);
        for (byte, bit) in (0..CODE_BYTES).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut random = [0; 16];
            random[byte] = 1_u8.rotate_left(bit);
            assert_ne!(new_code(random), zero, "bit {bit} of byte {byte}");
        }
    }
}
