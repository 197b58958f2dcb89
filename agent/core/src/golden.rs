//! Golden plans: plans/<subject>/<case>/{desired.yaml, observed.yaml, steps.txt}, one test per subject. Golden trees:
//! plans/render/<case> with the files that a node is to have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::status::Details;
use crate::subject::{Plan, Subject};

/// Walks plans/`subject`, at least `least` cases, whose steps.txt is the plan.
pub(crate) fn check<S>(subject: &str, least: usize)
where
    S: Subject,
    S::Desired: DeserializeOwned,
    S::Observed: DeserializeOwned,
{
    check_cases(subject, least, "steps.txt", |read| {
        let desired =
            serde_yaml::from_str(&read("desired.yaml")).map_err(|e| format!("desired: {e}"));
        let observed =
            serde_yaml::from_str(&read("observed.yaml")).map_err(|e| format!("observed: {e}"));
        match (desired, observed) {
            (Ok(desired), Ok(observed)) => {
                render(&S::plan(&desired, &observed), &S::details(&desired, &observed))
            }
            (Err(error), _) | (_, Err(error)) => error,
        }
    });
}

/// Walks plans/`subject`, at least `least` cases. In each the file `answer` is what is made of its other files.
/// `TRILITH_BLESS=1` writes what it is now into the case, to be read before it is committed.
#[expect(clippy::disallowed_methods, reason = "a test reads its cases")]
pub(crate) fn check_cases(
    subject: &str,
    least: usize,
    answer: &str,
    make: impl Fn(&dyn Fn(&str) -> String) -> String,
) {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans").join(subject);
    let mut failed = Vec::new();
    let mut folders: Vec<_> =
        fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= least, "{} cases", folders.len());
    for case in folders {
        let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_default();
        let text = make(&read);
        if std::env::var_os("TRILITH_BLESS").is_some() {
            fs::write(case.join(answer), &text).unwrap();
        }
        if text != read(answer) {
            failed.push(format!("{}:\n{text}", case.file_name().unwrap().display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Steps as people see them, then problems behind a `!`, then details behind a `=`.
fn render<S: std::fmt::Display>(plan: &Plan<S>, details: &Details) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        writeln!(text, "{step}").unwrap();
    }
    for problem in &plan.problems {
        writeln!(text, "! {}: {}", problem.object, problem.reason).unwrap();
    }
    for line in details.lines() {
        writeln!(text, "= {line}").unwrap();
    }
    text
}

/// Compares a tree of files, by path, with the folder plans/render/`case`, which has these files and no others.
/// `TRILITH_BLESS=1` makes the folder anew, to be read before it is committed.
#[expect(clippy::disallowed_methods, reason = "a test reads its cases")]
pub(crate) fn check_tree(case: &str, files: &BTreeMap<String, String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/render").join(case);
    if std::env::var_os("TRILITH_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    read_tree(&folder, &folder, &mut found);
    let paths: Vec<&String> = files.keys().collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), paths, "{case}: the files");
    for (path, text) in files {
        assert_eq!(found.get(path), Some(text), "{case}: {path}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads its cases")]
fn read_tree(top: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tree(top, &path, found);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}
