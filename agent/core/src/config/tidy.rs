//! What holds for any map and list, whatever the schema: keys stand once, merge keys are merged,
//! secrets are not here, an empty value is at least odd.

use std::collections::{HashMap, HashSet};

use super::document::{Kind, Node};
use super::problem::{Problems, error, warning};
use super::spots::{Spot, Spots};
use crate::names::SecretName;

/// Makes the tree plain and tells what is wrong with it.
pub(super) fn tidy(root: &mut Node, spots: &mut Spots, problems: &mut Problems) {
    for spot in spots.all() {
        refuse_secret(spot, spots, problems);
    }
    visit(root, spots, problems);
}

fn visit(node: &mut Node, spots: &Spots, problems: &mut Problems) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| visit(item, spots, problems)),
        Kind::Map(entries) => {
            refuse_duplicates(entries, spots, problems);
            for (_, value) in entries.iter_mut() {
                visit(value, spots, problems);
            }
            merge_keys(entries, problems);
            for (key, value) in entries.iter() {
                warn_of_empty(key, value, problems);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) => {}
    }
}

/// Of a key given twice the first is kept, so that what follows is judged as well.
fn refuse_duplicates(entries: &mut Vec<(String, Node)>, spots: &Spots, problems: &mut Problems) {
    let mut first: HashMap<String, Spot> = HashMap::new();
    entries.retain(|(key, value)| {
        let known = *first.entry(key.clone()).or_insert(value.spot);
        if known == value.spot {
            return true;
        }
        let line = spots.line(known);
        let reason =
            format!("the key `{key}` stands here a second time; the first is in line {line}");
        problems.push(error(value.spot, reason).on_key().help("keep one of the two"));
        false
    });
}

/// `<<: *anchor` brings in the keys that the map does not have itself.
fn merge_keys(entries: &mut Vec<(String, Node)>, problems: &mut Problems) {
    let Some(at) = entries.iter().position(|(key, _)| key == "<<") else { return };
    let (_, merged) = entries.remove(at);
    let spot = merged.spot;
    let mut known: HashSet<String> = entries.iter().map(|(key, _)| key.clone()).collect();
    let sources = match merged.kind {
        Kind::List(items) => items,
        kind => vec![Node { spot, kind }],
    };
    for source in sources {
        let Kind::Map(more) = source.kind else {
            let reason = "a merge key `<<` takes a map or a list of maps";
            problems.push(error(source.spot, reason).help("write `<<: *anchor`"));
            continue;
        };
        entries.extend(more.into_iter().filter(|(key, _)| known.insert(key.clone())));
    }
}

fn warn_of_empty(key: &str, value: &Node, problems: &mut Problems) {
    if matches!(value.kind, Kind::Null) {
        let reason = format!("`{key}` has no value and counts as absent");
        problems.push(warning(value.spot, reason).on_key().help("give a value or remove the key"));
    }
}

/// Keys under which people write secrets in clear.
const SECRET_KEYS: [&str; 12] = [
    "password",
    "passwd",
    "pass",
    "passphrase",
    "token",
    "api_key",
    "private_key",
    "secret_key",
    "psk",
    "credential",
    "credentials",
    "keyring",
];

/// Texts that only secrets have.
const SECRET_TEXTS: [&str; 3] = ["PRIVATE KEY-----", "AGE-SECRET-KEY-", "$6$"];

/// Whether a key asks for a secret in clear.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.contains(&key.as_str()) || key.ends_with("_password") || key.ends_with("_token")
}

fn refuse_secret(spot: Spot, spots: &mut Spots, problems: &mut Problems) {
    let by_key = spots.key(spot).filter(|key| is_secret_key(key)).map(|key| {
        let reason = format!("secrets never stand in the cluster file, and `{key}` is one");
        error(spot, reason).on_key()
    });
    let text = spots.scalar(spot).unwrap_or_default();
    let holds_secret = SECRET_TEXTS.iter().any(|mark| text.contains(mark)) || has_user_info(text);
    let by_text = holds_secret
        .then(|| error(spot, "this is a secret; secrets never stand in the cluster file"));
    let not_a_name =
        spots.key(spot) == Some("secret") && SecretName::try_from(text.to_owned()).is_err();
    let by_name = not_a_name.then(|| {
        error(spot, "this is not the name of a secret: 1 to 63 of a-z, 0-9 and '-', a letter first")
    });
    let Some(draft) = by_key.or(by_text).or(by_name) else { return };
    let help = "remove it here, put it into the secrets file, and refer to it by `secret: NAME`; \
                if this file has left your machine, change the secret";
    problems.push(draft.secret().help(help));
    spots.hide(spot);
}

/// `https://user:password@host`.
fn has_user_info(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
}
