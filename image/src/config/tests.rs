//! Every sample loads and is explained, every refusal has its exact message. `TRILITH_BLESS=1` writes the
//! expected texts anew; then read each of them.

mod fuzz; // no text makes it panic or hang
mod speed; // 1,000 nodes in time

use std::fs;
use std::path::{Path, PathBuf};

use trilith_core::config::{self, Judged};
use trilith_core::explain::explain;

use super::{node_id, render};

/// tests/clusters of the repository.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clusters").join(name)
}

/// The files of a folder with this ending, by name.
fn files(name: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "no {ending} in {name}");
    files
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// Compares with the expected text, or writes it if it is to be blessed.
fn expect(file: &Path, coloured: &str, differing: &mut Vec<String>) {
    let actual = anstream::adapter::strip_str(coloured).to_string();
    if std::env::var_os("TRILITH_BLESS").is_some() {
        fs::write(file, &actual).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    if actual != expected {
        differing.push(format!("{}: expected\n{expected}\nnot\n{actual}", file.display()));
    }
}

/// Judges every file of a folder and compares the messages.
fn compare_messages(folder: &str, check: impl Fn(&str, &Judged)) {
    let mut differing = Vec::new();
    for file in files(folder, ".yaml") {
        let text = fs::read_to_string(&file).unwrap();
        let judged = config::judge(&text);
        check(&name(&file), &judged);
        let messages = render::problems(&name(&file), &text, &judged.problems);
        expect(&file.with_extension("txt"), &messages, &mut differing);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_refusal_has_its_message() {
    compare_messages("invalid", |name, judged| {
        assert!(judged.config.is_none(), "{name} was taken");
        assert!(!judged.problems.is_empty(), "{name} was refused without a reason");
    });
}

#[test]
fn every_warning_has_its_message() {
    compare_messages("warnings", |name, judged| {
        assert!(judged.config.is_some(), "{name} was refused");
        assert!(!judged.problems.is_empty(), "{name} was taken without a warning");
    });
}

#[test]
fn every_sample_loads_without_a_word() {
    for file in files("valid", ".yaml") {
        let judged = config::judge(&fs::read_to_string(&file).unwrap());
        assert_eq!(judged.problems, [], "{}", file.display());
        assert!(judged.config.is_some());
    }
}

/// `homelab.node-1.txt` is the explanation of node 1 of `homelab.yaml`.
#[test]
fn every_explanation_is_as_written() {
    let mut differing = Vec::new();
    let mut explained = Vec::new();
    for file in files("valid", ".txt") {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (sample, node) = stem.split_once(".node-").expect("NAME.node-N.txt");
        let text = fs::read_to_string(folder("valid").join(sample).with_extension("yaml")).unwrap();
        let config = config::load(&text).unwrap();
        let explanation = explain(&config, node_id(node).unwrap()).unwrap();
        expect(&file, &render::explanation(&explanation), &mut differing);
        explained.push(format!("{sample}.yaml"));
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    for sample in files("valid", ".yaml") {
        assert!(explained.contains(&name(&sample)), "no explanation of {}", sample.display());
    }
}
