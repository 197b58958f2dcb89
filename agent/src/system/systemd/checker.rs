//! How each service's own program is asked whether it would take a configuration.

use std::ffi::OsStr;
use std::path::Path;

use trilith_core::render::patroni;
use trilith_core::services::Checker;

use crate::system::exec::{self, ExecError};
use crate::system::files::{FileError, Ids, Staged};

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    No(#[from] ExecError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Asks about this configuration, which lies in this file.
pub(super) async fn check(checker: Checker, path: &Path, text: &str) -> Result<(), CheckError> {
    let other = match checker {
        Checker::Patroni => patroni::without_servers(text),
        _ => None,
    };
    match other {
        None => Ok(ask(checker, path).await?),
        Some(text) => {
            let beside = Staged::new(path, &text, 0o600, Ids::us())?;
            Ok(ask(checker, beside.beside()).await?)
        }
    }
}

async fn ask(checker: Checker, path: &Path) -> Result<(), ExecError> {
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
    match exec::run(program, &args).await {
        Ok(_) => Ok(()),
        Err(error) if checker == Checker::Patroni && is_about_others(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Patroni also tries the servers that a configuration names, and none of them is to answer here.
fn is_about_others(error: &ExecError) -> bool {
    match error {
        ExecError::Failed { said, .. } => {
            !said.is_empty() && said.iter().all(|line| line.ends_with("is not reachable"))
        }
        ExecError::Start { .. } | ExecError::Late { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    /// Lines that `patroni --validate-config` printed.
    #[test]
    fn servers_that_do_not_answer_are_no_fault_of_the_configuration() {
        let said = |lines: &[&str]| ExecError::Failed {
            program: "patroni".into(),
            status: ExitStatus::from_raw(256),
            said: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let away = "zookeeper.hosts.0 10.0.0.1:2281 didn't pass validation: 10.0.0.1:2281 is not reachable";
        let wrong = "restapi.listen  is not defined.";
        assert!(is_about_others(&said(&[away, away])));
        for lines in [&[][..], &[wrong], &[away, wrong]] {
            assert!(!is_about_others(&said(lines)));
        }
    }
}
