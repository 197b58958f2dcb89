//! No text, however broken, makes the check panic or hang. A short run with each test; `ci/fuzz` gives it
//! more time by `TRILITH_FUZZ_SECONDS`, and another start by `TRILITH_FUZZ_SEED`.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_yaml::Value;
use trilith_core::config::{self, Judged, Severity};
use trilith_core::explain::explain;

use super::{files, render};

/// Slower than this on one input is a finding. Debug builds on a busy machine are slow.
const SLOWEST: Duration = Duration::from_secs(5);

/// A small generator (xorshift64*): a run is repeated by its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        let wide = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.next() % wide).unwrap()
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

/// What means something to YAML, or to nobody.
const TOKENS: [&str; 61] = [
    ": ",
    "- ",
    "\n- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "<<: *a",
    "<<: ",
    "!",
    "!!int ",
    "|\n",
    ">-\n",
    "\t",
    "\r",
    "\r\n",
    "\n",
    "\0",
    "\u{feff}",
    "\n---\n",
    "\n...\n",
    "# ",
    "'",
    "\"",
    "%YAML 1.2\n",
    "@",
    "`",
    "é",
    "𝄞",
    "\u{2028}",
    "\u{85}",
    "-1",
    "0",
    "1e999",
    ".nan",
    "~",
    "null",
    "true",
    "340282366920938463463374607431768211456",
    "18446744073709551616",
    "0x10",
    "0o7",
    "65536",
    "255.255.255.255/0",
    "::/0",
    "0.0.0.0/0",
    "10.0.0.0/33",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/1",
    "fd00::/126",
    "same_as",
    "links",
    "nic",
    "bond",
    "vlan",
    "bridge",
    "\\x",
    "9999999999999999999999d",
];

fn mutate(text: &mut String, others: &[String], dice: &mut Dice) {
    match dice.below(9) {
        0 => flip_byte(text, dice),
        1 => insert(text, dice),
        2 => remove(text, dice),
        3 => change_lines(text, others, dice),
        4 => nest(text, dice),
        5 | 6 => change_tree(text, dice),
        7 => text.truncate(boundary(text, dice)),
        _ => swap_words(text, dice),
    }
}

/// A place between two characters.
fn boundary(text: &str, dice: &mut Dice) -> usize {
    let mut at = dice.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn flip_byte(text: &mut String, dice: &mut Dice) {
    let mut bytes = std::mem::take(text).into_bytes();
    if !bytes.is_empty() {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

fn insert(text: &mut String, dice: &mut Dice) {
    let at = boundary(text, dice);
    let token = *dice.pick(&TOKENS);
    text.insert_str(at, token);
}

fn remove(text: &mut String, dice: &mut Dice) {
    let (a, b) = (boundary(text, dice), boundary(text, dice));
    let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 40));
    if text.is_char_boundary(to) {
        text.replace_range(from..to, "");
    }
}

fn change_lines(text: &mut String, others: &[String], dice: &mut Dice) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = dice.below(lines.len());
    if lines.is_empty() {
        return;
    }
    match dice.below(5) {
        0 => lines.insert(at, lines[at].clone()),
        1 => drop(lines.remove(at)),
        2 => lines[at].insert_str(0, "  "),
        3 => lines[at] = lines[at].trim_start().to_owned(),
        _ => {
            let other: Vec<&str> = dice.pick(others).lines().collect();
            let from = dice.below(other.len());
            let to = (from + 1 + dice.below(8)).min(other.len());
            for line in other[from..to].iter().rev() {
                lines.insert(at, (*line).to_owned());
            }
        }
    }
    *text = lines.join("\n") + "\n";
}

fn nest(text: &mut String, dice: &mut Dice) {
    let at = boundary(text, dice);
    let depth = [5, 40, 300, 20_000][dice.below(4)];
    let piece = *dice.pick(&["[", "{a: ", "- ", "? ", "{", "[{", "\n  ", "!a ", "&a [", "'"]);
    text.insert_str(at, &piece.repeat(depth));
}

fn swap_words(text: &mut String, dice: &mut Dice) {
    let words: Vec<&str> = text.split([' ', '\n', ',']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return;
    }
    let (old, new) = ((*dice.pick(&words)).to_owned(), (*dice.pick(&words)).to_owned());
    *text = text.replacen(&old, &new, 1 + dice.below(3));
}

/// Changes the file as a tree, so that it stays YAML and the checks behind the parser see it.
fn change_tree(text: &mut String, dice: &mut Dice) {
    // serde_yaml takes seconds for what nests ten thousand levels deep, and refuses it in the end.
    if text.len() > 30_000 {
        return;
    }
    let Ok(mut tree) = serde_yaml::from_str::<Value>(text) else { return };
    for _ in 0..=dice.below(3) {
        change_value(&mut tree, dice);
    }
    if let Ok(changed) = serde_yaml::to_string(&tree) {
        *text = changed;
    }
}

fn change_value(value: &mut Value, dice: &mut Dice) {
    let deeper = dice.below(5) > 0;
    match value {
        Value::Sequence(items) if deeper && !items.is_empty() => {
            let at = dice.below(items.len());
            match dice.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change_value(&mut items[at], dice),
            }
        }
        Value::Mapping(map) if deeper && !map.is_empty() => {
            let keys: Vec<Value> = map.keys().cloned().collect();
            let key = dice.pick(&keys);
            match dice.below(8) {
                0 => drop(map.remove(key)),
                1 => {
                    let moved = map[key].clone();
                    map.insert((*dice.pick(&TOKENS)).into(), moved);
                }
                _ => change_value(&mut map[key], dice),
            }
        }
        _ => *value = other_value(dice),
    }
}

fn other_value(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::from(dice.next()),
        3 => Value::from(dice.below(300)),
        4 => Value::Sequence(vec![Value::Null]),
        5 => Value::Mapping(serde_yaml::Mapping::new()),
        6 => Value::from(-1.5),
        _ => Value::from(*dice.pick(&TOKENS)),
    }
}

/// What holds for every text.
fn judge(text: &str) {
    let Judged { config, problems } = config::judge(text);
    let errors = problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(config.is_none(), errors, "refused without an error, or taken with one");
    let lines = text.lines().count();
    for problem in &problems {
        let line = problem.position.line;
        assert!((1..=lines + 2).contains(&line), "line {line} of {lines}: {problem:?}");
        assert!(!problem.reason.contains("fault of Trilith"), "refused without a reason");
    }
    render::problems("fuzz.yaml", text, &problems);
    for node in config.iter().flat_map(|config| config.nodes.keys()) {
        assert!(explain(config.as_ref().unwrap(), *node).is_some());
    }
}

/// The input being judged and since when, for whoever watches.
type Current = Arc<Mutex<Option<(String, Instant)>>>;

/// Ends the process if an input takes too long, and keeps the input: a hanging thread cannot be stopped.
fn watch(current: &Current, done: &mpsc::Receiver<()>) {
    while done.recv_timeout(SLOWEST / 4) == Err(mpsc::RecvTimeoutError::Timeout) {
        let current = current.lock().unwrap();
        if let Some((input, since)) =
            current.as_ref().filter(|(_, since)| since.elapsed() > SLOWEST)
        {
            keep(input);
            eprintln!("it takes {:?} and more", since.elapsed());
            std::process::abort();
        }
    }
}

/// Writes a finding to where it survives the run.
fn keep(input: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-finding.yaml");
    fs::write(&path, input).unwrap();
    eprintln!("the input is in {}", path.display());
}

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn broken_files_neither_panic_nor_hang() {
    let seconds = number_from_env("TRILITH_FUZZ_SECONDS", 2);
    let seed = number_from_env("TRILITH_FUZZ_SEED", 1);
    let paths = ["valid", "invalid", "warnings"].map(|folder| files(folder, ".yaml")).concat();
    let corpus: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let current: Current = Arc::default();
    let (finish, done) = mpsc::channel();
    let watcher = std::thread::spawn({
        let current = Arc::clone(&current);
        move || watch(&current, &done)
    });
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut dice = Dice(seed.max(1));
    let mut inputs = 0_u64;
    while Instant::now() < end {
        let mut text = dice.pick(&corpus).clone();
        for _ in 0..=dice.below(6) {
            mutate(&mut text, &corpus, &mut dice);
        }
        *current.lock().unwrap() = Some((text.clone(), Instant::now()));
        if std::panic::catch_unwind(|| judge(&text)).is_err() {
            keep(&text);
            panic!("input {inputs} of seed {seed} is a finding");
        }
        *current.lock().unwrap() = None;
        inputs += 1;
    }
    finish.send(()).unwrap();
    watcher.join().unwrap();
    eprintln!("fuzz: {inputs} inputs in {seconds} s from seed {seed}, no finding");
}
