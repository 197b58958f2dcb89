//! How each service's own program is asked whether it would take a configuration.

use std::ffi::OsStr;
use std::path::Path;

use trilith_core::services::Checker;

use crate::system::exec::{self, ExecError};

/// Asks about the configuration in this file.
pub(super) async fn check(checker: Checker, path: &Path) -> Result<(), ExecError> {
    let (program, flags): (_, &[&str]) = match checker {
        // vtysh(1): --dryrun, --inputfile
        Checker::Vtysh => ("vtysh", &["-C", "-f"]),
        // The port is in use by the Patroni that is to be reloaded.
        Checker::Patroni => ("patroni", &["--ignore-listen-port", "--validate-config"]),
        // nft(8): --check, --file
        Checker::Nft => ("nft", &["-c", "-f"]),
        // sshd(8): test mode
        Checker::Sshd => ("/usr/sbin/sshd", &["-t", "-f"]),
        // chronyd(8): print the configuration and exit
        Checker::Chrony => ("chronyd", &["-p", "-f"]),
        Checker::Ceph => ("ceph-conf", &["--lookup", "fsid", "-c"]),
    };
    let mut args: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
    args.push(path.as_os_str());
    exec::run(program, &args).await.map(drop)
}
