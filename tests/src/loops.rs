//! Files as disks, and the programs that change disks on them: in the tools tree, with nothing to take for a disk of the
//! machine but these.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::artifact;
use crate::command::{run, sh};
use crate::machine::{in_tools, in_tools_with};

/// A file as a disk; gone when it is dropped.
#[derive(Debug)]
pub struct Loop(String);

impl Loop {
    /// With sectors of this many bytes.
    pub fn new(file: &Path, sector: u32) -> Result<Self> {
        let sector = format!("--sector-size={sector}");
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--partscan", &sector]).arg(file);
        let device = Self(run(&mut command)?.trim().trim_start_matches("/dev/").to_owned());
        device.look(3);
        Ok(device)
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The device of a partition.
    pub fn partition(&self, number: u32) -> String {
        format!("/dev/{}p{number}", self.0)
    }

    /// Tells the kernel of the partitions if it lacks the last: not every one reads a GPT by itself.
    pub fn look(&self, last: u32) {
        if Path::new(&format!("/sys/class/block/{}p{last}", self.0)).exists() {
            return;
        }
        // A table that is just being written has none.
        let _ = sh(&format!("partx --update /dev/{}", self.0));
    }

    /// What udev would have left of it below `run`.
    pub fn tell(&self, run: &Path, serial: &str) -> Result<()> {
        let number = fs::read_to_string(format!("/sys/class/block/{}/dev", self.0))?;
        let folder = run.join("udev/data");
        fs::create_dir_all(&folder)?;
        let text = format!("E:ID_SERIAL_SHORT={serial}\n");
        Ok(fs::write(folder.join(format!("b{}", number.trim())), text)?)
    }

    /// What udev would have left of its partitions below `run`.
    pub fn tell_partitions(&self, run_folder: &Path) -> Result<()> {
        let device = format!("/dev/{}", self.0);
        let table = run(in_tools("sfdisk", &[])?.args(["--json", &device]))?;
        let table: serde_json::Value = serde_json::from_str(&table)?;
        let parts = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        let folder = run_folder.join("udev/data");
        fs::create_dir_all(&folder)?;
        for part in parts {
            let word = |key: &str| part[key].as_str().unwrap_or_default();
            let name = word("node").trim_start_matches("/dev/");
            let number = fs::read_to_string(format!("/sys/class/block/{name}/dev"))?;
            let (kind, uuid) = (word("type").to_lowercase(), word("uuid").to_lowercase());
            let text = format!(
                "E:ID_PART_ENTRY_DISK={}\nE:ID_PART_ENTRY_TYPE={kind}\nE:ID_PART_ENTRY_UUID={uuid}\n\
                 E:ID_PART_ENTRY_NAME={}\n",
                self.0,
                word("name")
            );
            fs::write(folder.join(format!("b{}", number.trim())), text)?;
        }
        Ok(())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // What is left of it is seen in `losetup`.
        let _ = sh(&format!("losetup --detach /dev/{}", self.0));
    }
}

/// A machine that has only some of the host's loop devices.
#[derive(Debug)]
pub struct Bench<'a> {
    /// Its disks.
    pub disks: Vec<&'a Loop>,
    /// Its /run.
    pub run: PathBuf,
    /// Its kernel's command line.
    pub command_line: PathBuf,
    /// What else it sees: a file or folder of the host's, and where.
    pub more: Vec<(PathBuf, &'a str)>,
}

impl Bench<'_> {
    /// A program of the tools tree, or of `more`, on that machine.
    pub fn command(&self, program: &str) -> Result<Command> {
        let shown = |path: &Path| path.display().to_string();
        let mut more: Vec<String> =
            ["--cap-add", "ALL", "--tmpfs", "/sys", "--dir", "/var/tmp"].map(String::from).into();
        more.extend(libraries()?);
        let mut bind = |from: String, to: &str| more.extend(["--bind".into(), from, to.into()]);
        bind(shown(&self.run), "/run");
        bind(shown(&self.command_line), "/proc/cmdline");
        for (from, to) in &self.more {
            bind(shown(from), to);
        }
        for folder in ["/sys/dev", "/sys/devices", "/sys/block", "/sys/module"] {
            bind(folder.into(), folder);
        }
        for disk in &self.disks {
            let name = disk.name();
            bind(format!("/sys/devices/virtual/block/{name}"), &format!("/sys/disks/{name}"));
        }
        for disk in &self.disks {
            let name = disk.name();
            let (from, to) = (format!("/sys/disks/{name}"), format!("/sys/class/block/{name}"));
            more.extend(["--symlink".into(), from, to]);
        }
        in_tools_with(program, &[], &more)
    }
}

/// For bwrap: /usr/lib of the tools tree as it is, but for what may be added to it.
fn libraries() -> Result<Vec<String>> {
    let mut arguments = vec!["--tmpfs".to_owned(), "/usr/lib".into()];
    for entry in fs::read_dir(artifact::tools()?.join("usr/lib"))? {
        let path = entry?.path();
        let to = Path::new("/usr/lib").join(path.file_name().context("no name")?);
        let (how, from) = match fs::read_link(&path) {
            Ok(target) => ("--symlink", target),
            Err(_) => ("--ro-bind", path),
        };
        arguments.extend([how.into(), from.display().to_string(), to.display().to_string()]);
    }
    Ok(arguments)
}
