//! A rehearsal as an operator runs it: the whole command, with a cluster file that is not made for the lab.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use trilith_tests::artifact;

use super::rolling::SECOND;

#[test]
fn an_operator_rehearses_an_upgrade() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (image, json) = (artifact::image()?, folder.path().join("seen.json"));
    // One image suffices: a root under a newer name is another release.
    let next = folder.path().join(format!("trilith_{SECOND}.root"));
    symlink(artifact::root()?, &next)?;
    let mut rehearse = Command::new(artifact::program("trilith")?);
    rehearse.arg("rehearse").arg(artifact::cluster("bonds.yaml")).arg(image).arg(next);
    let good = rehearse.arg("--json").arg(&json).status()?.success();
    let text = fs::read_to_string(&json)?;
    let lines: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?;
    let told = |key: &str| lines.iter().filter_map(|line| line.get(key)).collect::<Vec<_>>();
    ensure!(told("change").iter().any(|it| it["keys"] == "links"), "bonds are not remapped");
    let seconds = told("second");
    ensure!(
        seconds.iter().enumerate().all(|(number, it)| it["number"] == number),
        "every second is told once"
    );
    let end = *told("end").first().context("it does not come to its end")?;
    ensure!(end["stopped"].is_null() && end["seconds"] == seconds.len(), "{end:#}");
    let writers = end["writers"].as_array().context("no writers")?;
    ensure!(writers.len() == 3 && writers.iter().all(|it| it["lost"] == json!([])), "{writers:#?}");
    ensure!(good, "{end:#}");
    let mut restarts: Vec<&str> = end["restarts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["node"].as_str())
        .collect();
    restarts.sort_unstable();
    ensure!(restarts == ["node1", "node2", "node3"], "each once: {restarts:?}");
    // The last word of the seconds themselves: the wave was seen, and all were there at its end.
    let away = |it: &&&Value| it["seen"]["zookeeper"]["serve"] == 2;
    ensure!(seconds.iter().filter(away).count() > 0, "no second shows a coordinator away");
    let end = seconds.last().context("no seconds")?;
    ensure!(end["seen"]["zookeeper"]["serve"] == 3, "{end:#}");
    Ok(())
}
