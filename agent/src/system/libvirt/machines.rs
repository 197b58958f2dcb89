//! The machines that run, each with what matters for where else it may run.

use std::collections::BTreeMap;

use nix::sys::statfs::{
    AFS_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OCFS2_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs,
};
use trilith_core::machines::{self, Machine};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

/// Every machine that runs, by UUID. One that comes from another node is among them before it has arrived.
pub(super) fn look(connect: &Connect) -> Result<BTreeMap<String, Machine>, Error> {
    let mut machines = BTreeMap::new();
    for domain in connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
        match machine(&domain) {
            Ok((uuid, machine)) => _ = machines.insert(uuid, machine),
            // It has ended since it was listed.
            Err(error) if error.code() == ErrorNumber::NoDomain => {}
            Err(error) => return Err(error),
        }
    }
    Ok(machines)
}

fn machine(domain: &Domain) -> Result<(String, Machine), Error> {
    let (uuid, name, xml) =
        (domain.get_uuid_string()?, domain.get_name()?, domain.get_xml_desc(0)?);
    let machine = Machine::read(&xml, is_shared);
    Ok((uuid, machine.unwrap_or_else(|error| Machine::unknown(name, &error))))
}

/// A driver without a processor, such as the tests', has none to tell of.
pub(super) fn processor(connect: &Connect) -> Option<String> {
    machines::processor(&connect.get_capabilities().ok()?)
}

/// Ceph's file system (linux/magic.h).
const CEPH_SUPER_MAGIC: FsType = FsType(0x00c3_6400);
/// Red Hat's.
const GFS2_MAGIC: FsType = FsType(0x0116_1970);
/// The newer two versions of SMB.
const CIFS_SUPER_MAGIC: FsType = FsType(0xff53_4d42);
const SMB2_SUPER_MAGIC: FsType = FsType(0xfe53_4d42);

/// Whether a file is on a file system that several nodes may have mounted: those that libvirt takes for such. What cannot
/// be looked at is not.
fn is_shared(path: &str) -> bool {
    let shared = [
        AFS_SUPER_MAGIC,
        CEPH_SUPER_MAGIC,
        CIFS_SUPER_MAGIC,
        GFS2_MAGIC,
        NFS_SUPER_MAGIC,
        OCFS2_SUPER_MAGIC,
        SMB2_SUPER_MAGIC,
        SMB_SUPER_MAGIC,
    ];
    statfs(path).is_ok_and(|found| shared.contains(&found.filesystem_type()))
}
