//! A program that asks everybody once in a second: each member of ZooKeeper and of Postgres, and Ceph's monitors.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Client, furnish};
use crate::lab::Lab;

const NAME: &str = "watcher.py";
const PROGRAM: &str = include_str!("watcher.py");

/// How long the first second may take that it tells of.
const PATIENCE: Duration = Duration::from_mins(1);

/// It watches as long as this is.
#[derive(Debug)]
pub struct Watchers {
    client: Client<Look>,
    /// What it needs, as long as it runs.
    _folder: TempDir,
}

/// What was seen of one service in one second. Seconds are those since 1970-01-01 UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// Of ZooKeeper.
    ZooKeeper(ZooKeeper),
    /// Of Postgres.
    Postgres(Postgres),
    /// Of Ceph.
    Ceph(Ceph),
}

/// ZooKeeper in one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZooKeeper {
    /// Which.
    #[serde(skip_serializing)]
    pub second: u64,
    /// So many members served.
    pub serve: usize,
    /// The one that led.
    pub leader: Option<String>,
}

/// Postgres in one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postgres {
    /// Which.
    #[serde(skip_serializing)]
    pub second: u64,
    /// So many members answered a question.
    pub answer: usize,
    /// The one that took writes.
    pub leader: Option<String>,
    /// So many replicas streamed from it.
    pub streaming: usize,
    /// For so many of them a commit waits.
    pub sync: usize,
}

/// Ceph in one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceph {
    /// Which.
    #[serde(skip_serializing)]
    pub second: u64,
    /// What the monitors said; nothing if none answered.
    pub seen: Option<Storage>,
}

/// What Ceph's monitors said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// So many of them were in the quorum.
    pub quorum: usize,
    /// So many OSDs were up.
    pub up: usize,
    /// So many OSDs there are.
    pub osds: usize,
    /// So many placement groups were not active: what is in them had to wait.
    pub inactive: usize,
}

impl Watchers {
    /// Starts it, and waits until it has seen something.
    pub fn start(lab: &Lab) -> Result<Self> {
        let folder = lab.scratch()?;
        furnish(lab, folder.path())?;
        fs::write(folder.path().join(NAME), PROGRAM)?;
        let client = Client::start(lab, folder.path(), &[&format!("/mnt/{NAME}")])?;
        client.next(PATIENCE)?;
        Ok(Self { client, _folder: folder })
    }

    /// What is news.
    pub fn looks(&self) -> Result<Vec<Look>> {
        self.client.news()
    }
}
