//! Disk rules and OSDs.

use super::{Check, Told, given_or, items};
use crate::config::given::Given;
use crate::config::merge::MergedNode;
use crate::config::problem::error;
use crate::config::raw::{RawDisk, RawOsd, RawOsdDb};
use crate::config::spots::Spot;
use crate::config::{Disk, Osd, OsdDb};
use crate::names::Count;

/// The system disk's rule, if the node has one.
pub(super) fn system_disk(check: Check<'_>, node: &MergedNode) -> Result<Option<Disk>, Told> {
    match &node.system_disk {
        Given::Absent => Ok(None),
        Given::Wrong => Err(Told),
        Given::Is(raw, spot) => rule(check, node, raw, *spot).map(Some).ok_or(Told),
    }
}

/// The rule for the disk of a diskless node's /var, if it has one.
pub(super) fn var_disk(check: Check<'_>, node: &MergedNode) -> Result<Option<Disk>, Told> {
    match &node.var_disk {
        Given::Absent => Ok(None),
        Given::Wrong => Err(Told),
        Given::Is(_, spot) if !node.system_disk.is_absent() => {
            let reason = "a node with a system disk has its /var there";
            let help = "remove `var_disk`, or `system_disk` if nothing is to be installed";
            check.tell_on(node, error(*spot, reason).on_key().help(help));
            Err(Told)
        }
        Given::Is(raw, spot) => rule(check, node, raw, *spot).map(Some).ok_or(Told),
    }
}

/// The disks that may be taken though something is on them; a node that keeps everything in memory takes none.
pub(super) fn wipe(check: Check<'_>, node: &MergedNode) -> Vec<String> {
    let takes_none = node.system_disk.is_absent() && node.var_disk.is_absent();
    if let (true, Some((_, spot))) = (takes_none, node.wipe.at()) {
        let reason = "a node without a system disk or a disk for /var takes no disk";
        let help = "give the node `system_disk` or `var_disk`, or remove `wipe`";
        check.tell_on(node, error(spot, reason).on_key().help(help));
    }
    items(&node.wipe).map(|(name, _)| name.clone()).collect()
}

fn rule(check: Check<'_>, node: &MergedNode, raw: &RawDisk, spot: Spot) -> Option<Disk> {
    let RawDisk { id, path, serial, wwn, model, kind, transport, min_size, max_size } = raw;
    let disk = Disk {
        id: id.get().cloned(),
        path: path.get().cloned(),
        serial: serial.get().cloned(),
        wwn: wwn.get().cloned(),
        model: model.get().cloned(),
        kind: kind.get().copied(),
        transport: transport.get().copied(),
        min_size: min_size.get().copied(),
        max_size: max_size.get().copied(),
    };
    if disk == Disk::default() {
        let help = "give at least one of id, path, serial, wwn, model, kind, transport, min_size, max_size";
        let draft = error(spot, "a disk rule without a criterion fits every disk").help(help);
        // A rule whose only criterion is wrong has been told of.
        if is_empty(raw) {
            check.tell_on(node, draft);
        }
        return None;
    }
    if let (Some(min), Some((max, at))) = (disk.min_size, max_size.at())
        && min > *max
    {
        let reason = format!("no disk is at least {min} and at most {max} large");
        check.tell_on(node, error(at, reason).help("swap min_size and max_size"));
        return None;
    }
    Some(disk)
}

/// Whether nothing is written in a rule, not even something wrong.
fn is_empty(raw: &RawDisk) -> bool {
    let RawDisk { id, path, serial, wwn, model, kind, transport, min_size, max_size } = raw;
    let names = id.is_absent() && path.is_absent() && serial.is_absent() && wwn.is_absent();
    let looks = model.is_absent() && kind.is_absent() && transport.is_absent();
    names && looks && min_size.is_absent() && max_size.is_absent()
}

/// The OSDs of a node; the rules may not choose the same disk, as far as the file can tell.
pub(super) fn osds(
    check: Check<'_>,
    node: &MergedNode,
    [system, var]: [Option<&Disk>; 2],
) -> Option<Vec<Osd>> {
    let mut osds = Vec::new();
    let others = [(system, "the system disk"), (var, "the disk of /var")];
    let others = others.into_iter().filter_map(|(disk, owner)| Some((disk?.clone(), owner)));
    let mut taken: Vec<(Disk, &str)> = others.collect();
    let mut sound = matches!(node.osds, Given::Absent | Given::Is(..));
    for (raw, spot) in items(&node.osds) {
        let Some(osd) = osd(check, node, raw, spot) else {
            sound = false;
            continue;
        };
        if let Some((_, owner)) = taken.iter().find(|(disk, _)| same_disk(disk, &osd.disk)) {
            let at = raw.disk.at().map_or(spot, |(_, spot)| spot);
            let reason = format!("this rule chooses {owner}");
            check.tell_on(node, error(at, reason).help("choose another disk"));
            sound = false;
        }
        taken.push((osd.disk.clone(), "the disk of another OSD rule"));
        osds.push(osd);
    }
    sound.then_some(osds)
}

/// Whether two rules surely choose the same disk: by an identity that only one disk has, or word by word.
fn same_disk(a: &Disk, b: &Disk) -> bool {
    let same_id = a.id.is_some() && a.id == b.id;
    let same_path = a.path.is_some() && a.path == b.path;
    let same_serial = a.serial.is_some() && a.serial == b.serial;
    let same_wwn = a.wwn.is_some() && a.wwn == b.wwn;
    same_id || same_path || same_serial || same_wwn || a == b
}

fn osd(check: Check<'_>, node: &MergedNode, raw: &RawOsd, spot: Spot) -> Option<Osd> {
    let help = "write `disk: {kind: nvme, min_size: 900GB}`: which disks";
    let disk = check.need(&raw.disk, spot, "disk", help);
    let db = db(check, node, &raw.db);
    let disk = rule(check, node, &disk?, raw.disk.at()?.1)?;
    Some(Osd {
        disk,
        count: given_or(&raw.count, Count::ONE),
        per_disk: given_or(&raw.per_disk, Count::ONE),
        class: raw.class.get().copied(),
        db: db.ok()?,
        encrypted: given_or(&raw.encrypted, false),
        overwrite: items(&raw.overwrite).map(|(name, _)| name.clone()).collect(),
    })
}

fn db(check: Check<'_>, node: &MergedNode, raw: &Given<RawOsdDb>) -> Result<Option<OsdDb>, Told> {
    let (raw, spot) = match raw {
        Given::Absent => return Ok(None),
        Given::Wrong => return Err(Told),
        Given::Is(raw, spot) => (raw, *spot),
    };
    let disk = check.need(&raw.disk, spot, "disk", "write `disk: {kind: nvme}`: the faster disk");
    let size = check.need(&raw.size, spot, "size", "write `size: 60GiB`: what each OSD gets of it");
    let at = raw.disk.at().map_or(spot, |(_, spot)| spot);
    let disk = disk.and_then(|disk| rule(check, node, &disk, at)).ok_or(Told)?;
    Ok(Some(OsdDb { disk, size: size.ok_or(Told)? }))
}
