//! What a person at the console learns of who this machine is: which source told it, or what was seen.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};
use trilith_core::identity::Machine;
use trilith_core::network::{Desired, Network, ObservedLink};
use trilith_core::sighting::Sighting;

use super::installation::Installation;
use crate::bundle::Found;
use crate::reconcile::{Host, chain};
use crate::report::console::Console;
use crate::system::bundle as places;
use crate::system::firmware;
use crate::system::netlink::Netlink;

/// NICs that appear together are shown together: it spares a person a screen of text for each.
const GATHER: Duration = Duration::from_secs(1);

/// Looks at the machine, and speaks on its console.
pub(super) struct Onlooker {
    netlink: Netlink,
    console: Console,
    links: Vec<ObservedLink>,
    /// What the sources had to say last.
    pub(super) told: Vec<String>,
    /// What was shown last.
    pub(super) shown: String,
    introduced: Option<PathBuf>,
}

impl Onlooker {
    /// Has seen nothing yet.
    pub(super) fn new(console: Console) -> Self {
        let (links, told, shown) = (Vec::new(), Vec::new(), String::new());
        Self { netlink: Netlink::new(), console, links, told, shown, introduced: None }
    }

    /// Looks at what tells this machine from others.
    pub(super) async fn look(&mut self) -> Machine {
        match Host::<Network>::observe(&mut self.netlink, &Desired::default()).await {
            Ok(observed) => self.links = observed.links,
            Err(error) => warn!(error = %chain(&*error), "cannot look at the links"),
        }
        Machine::new(&firmware::read(), &self.links, places::endorsement())
    }

    /// Shows which machine this is, for as long as nobody has said what it should be; only what is new.
    pub(super) fn show(&mut self) {
        let (links, places) = (self.links.clone(), self.told.clone());
        let tpm = places::endorsement();
        let mut text = Sighting { firmware: firmware::read(), links, tpm, places }.text();
        if let Some(problem) = places::kept().and_then(|kept| kept.problem()) {
            text.push_str(&problem.to_string());
            text.push('\n');
        }
        if text != self.shown {
            info!("{text}");
            self.console.say("no node bundle");
            self.console.show(&text);
            self.shown = text;
        }
    }

    /// Says whose bundle was taken, from where, and why from nowhere else; once for each place.
    pub(super) fn introduce(&mut self, found: &Found, told: &[String]) {
        if self.introduced.as_ref() == Some(&found.source) {
            return;
        }
        let node = &found.assignment.identity;
        let source = found.source.display();
        let mut text = format!(
            "this is node {} (ID {}) of cluster {}, says {source}",
            node.name, node.id, node.cluster
        );
        for line in told {
            text.push_str("\n  ");
            text.push_str(line);
        }
        if Installation::is_due(&found.assignment) {
            text.push_str("\nstarted from a medium: this node is installed on its system disk");
        } else if let Some(kept) = places::kept() {
            text.push('\n');
            let kept = kept.judged(found.assignment.keeps_var);
            text.push_str(&kept.text(places::is_fetched()));
        }
        info!("{text}");
        self.console.say(&text);
        self.introduced = Some(found.source.clone());
    }

    /// Resolves when the links may look different than they did. Cancel-safe: a change stays one until the
    /// next look.
    pub(super) async fn news(&mut self) {
        Host::<Network>::changed(&mut self.netlink).await;
        sleep(GATHER).await;
    }
}
