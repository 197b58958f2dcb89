//! BMC, disks, what is reserved.

use super::{Fact, Section, fact, list, section, setting};
use crate::config::{Disk, Node, Osd, Reserve};

/// What the node's hardware is used for.
pub(super) fn hardware(node: &Node) -> Section {
    let mut facts = vec![match &node.bmc {
        Some(bmc) => fact(
            "bmc",
            format!("{}@{}, password in secret {}", bmc.user, bmc.address, bmc.secret),
            "given for this node, else in node_defaults",
        ),
        None => fact("bmc", "none", "no bmc is given: the node cannot be fenced"),
    }];
    facts.push(match &node.system_disk {
        Some(disk) => fact("system disk", rule(disk), "the one disk that fits the rule"),
        None => fact("system disk", "none", "no rule is given: the node runs diskless"),
    });
    if node.system_disk.is_none() {
        facts.push(match &node.var_disk {
            Some(disk) => fact("disk of /var", rule(disk), "the one disk that fits the rule"),
            None => fact("disk of /var", "none", "no rule is given: /var is memory"),
        });
    }
    if !node.wipe.is_empty() {
        let names = list(node.wipe.iter().cloned(), "");
        let disk = if node.system_disk.is_some() { "system disk" } else { "disk of /var" };
        facts.push(fact(
            format!("{disk} over data"),
            names,
            "what is on these disks may be destroyed",
        ));
    }
    facts.extend(node.osds.iter().flat_map(osd));
    if node.osds.is_empty() {
        facts.push(fact("osds", "none", "no rule is given"));
    }
    let (reserve, default) = (node.reserve, Reserve::DEFAULT);
    facts.push(setting("reserved CPUs", &reserve.cpus, &default.cpus));
    facts.push(setting("reserved memory", &reserve.memory, &default.memory));
    let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
    facts.push(fact("labels", list(labels, "none"), "the node's own over node_defaults"));
    section("hardware", facts)
}

fn rule(disk: &Disk) -> String {
    let Disk { id, path, serial, wwn, model, kind, transport, min_size, max_size } = disk;
    let criteria = [
        id.as_ref().map(|id| format!("id {id}")),
        path.as_ref().map(|path| format!("path {path}")),
        serial.as_ref().map(|serial| format!("serial {serial}")),
        wwn.as_ref().map(|wwn| format!("WWN {wwn}")),
        model.as_ref().map(|model| format!("model {model}")),
        kind.map(|kind| kind.to_string()),
        transport.map(|transport| format!("by {transport}")),
        min_size.map(|size| format!("at least {size}")),
        max_size.map(|size| format!("at most {size}")),
    ];
    list(criteria.into_iter().flatten(), "any")
}

fn osd(osd: &Osd) -> Vec<Fact> {
    let Osd { disk, count, per_disk, class, db, encrypted, overwrite } = osd;
    let encrypted = if *encrypted { ", encrypted" } else { "" };
    let total = u32::from(count.get()) * u32::from(per_disk.get());
    let class = class.map_or_else(|| "the disk's kind".to_owned(), |class| class.to_string());
    let because = format!("{count} disks × {per_disk} per disk = {total} OSDs of class: {class}");
    let mut facts = vec![fact("osds", format!("{}{encrypted}", rule(disk)), because)];
    if let Some(db) = db {
        facts.push(fact("osd metadata", rule(&db.disk), format!("{} for each OSD", db.size)));
    }
    if !overwrite.is_empty() {
        let names = list(overwrite.iter().cloned(), "");
        facts.push(fact("osds over data", names, "what is on these disks may be destroyed"));
    }
    facts
}
