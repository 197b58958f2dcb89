//! What bytes are known by.

use super::{require, text_value};

text_value! {
    /// A SHA-256 digest in lower-case hexadecimal digits.
    Sha256, |hex| require(is_sha256(hex), "a SHA-256 digest has 64 of 0-9 and a-f")
}

/// Whether a text is 256 bits in lower-case hexadecimal digits.
pub(crate) fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}
