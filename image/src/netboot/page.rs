//! The live table, as text.

use std::fmt::Write as _;

use trilith_core::netboot::fingerprint;

use super::desk::{Stage, Visit};
use super::server::Ledger;

const MIB: u64 = 1 << 20;

/// Everything that the operator sees: downloads, who asks for bundles, the last that happened.
pub(crate) fn text(title: &str, ledger: &Ledger, last: &[String]) -> String {
    let mut text = format!("{title}\n\n");
    // Writing to a `String` cannot fail.
    for ((address, file), (sent, of)) in &ledger.sent {
        let _ = writeln!(
            text,
            "{address:<15} {file:<10} {:>5} of {} MiB",
            sent / MIB,
            of.div_ceil(MIB)
        );
    }
    let visits = ledger.desk.visits();
    if visits.is_empty() {
        text.push_str("nobody has asked for a bundle yet\n");
    }
    for (number, visit) in (1..).zip(visits) {
        text.push_str(&entry(number, visit));
    }
    text.push('\n');
    for line in last {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// One who asks: two lines, which fit a terminal of 80 columns.
pub(crate) fn entry(number: usize, visit: &Visit) -> String {
    let Visit { asking, from, node, stage } = visit;
    let node = match node {
        Ok((id, name)) => format!("node {id} ({name})"),
        Err(reason) => format!("no node: {reason}"),
    };
    let state = match stage {
        _ if visit.node.is_err() => String::new(),
        Stage::Waiting => format!(": waits: y {number} or n {number}"),
        Stage::Approved => ": may have its bundle".to_owned(),
        Stage::Refused => ": refused".to_owned(),
        Stage::Given(_) => ": was sent its bundle".to_owned(),
        Stage::Reported => ": has reported in".to_owned(),
        Stage::Late => ": gets nothing, the node has reported in".to_owned(),
    };
    let macs: Vec<String> = asking.macs.iter().map(ToString::to_string).collect();
    let serial = asking.serial.as_deref().map(plain).unwrap_or_default();
    format!(
        "{number:>3}  {from:<15} key {}  {node}{state}\n     {}  serial {serial}\n",
        fingerprint(&asking.key),
        macs.join(" "),
    )
}

/// What a stranger sends must not move the operator's cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use trilith_core::netboot::Asking;

    use super::*;

    #[test]
    fn an_entry_says_who_asks_and_what_to_type() {
        let asking = Asking {
            key: "age1example".into(),
            macs: vec![trilith_core::names::MacAddr([0x52, 0x54, 0, 0, 1, 0])],
            serial: Some("S\u{1b}[2J1".into()),
            uuid: None,
        };
        let from = "10.0.0.9".parse().unwrap();
        let node = Err("no node fits".to_owned());
        let mut visit = Visit { asking, from, node, stage: Stage::Waiting };
        let print = fingerprint("age1example");
        let expected = format!(
            "  1  10.0.0.9        key {print}  no node: no node fits\n     52:54:00:00:01:00  serial S[2J1\n"
        );
        assert_eq!(entry(1, &visit), expected);
        visit.node = Ok((1.try_into().unwrap(), "hv1".to_owned().try_into().unwrap()));
        assert!(entry(1, &visit).contains("node 1 (hv1): waits: y 1 or n 1\n"));
    }
}
