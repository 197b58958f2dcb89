//! Small words that people choose.

use super::{require, text_value};

text_value! {
    /// A label's key on a node: `rack`, `room`. Ceph failure domains and placement rules refer to it.
    LabelKey, |key| require(
        is_word(key) && key.starts_with(|c: char| c.is_ascii_lowercase()),
        "a label's key is 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter",
    )
}

text_value! {
    /// A label's value on a node.
    LabelValue, |value| require(
        (1..=63).contains(&value.len()) && value.chars().all(|c| c.is_ascii_graphic()),
        "a label's value is 1 to 63 printable ASCII characters without blanks",
    )
}

text_value! {
    /// A release channel of the update source: `stable`, `testing`.
    Channel, |name| require(
        is_word(name),
        "a channel is 1 to 63 of a-z, 0-9, '-', '_' and '.'",
    )
}

impl Channel {
    /// The channel that every release reaches in the end: the default.
    pub fn stable() -> Self {
        Self("stable".to_owned())
    }
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (1..=63).contains(&text.len()) && text.chars().all(allowed)
}
