//! Where log lines go: to the journal when systemd runs the program, else to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging. `TRILITH_LOG` filters as `RUST_LOG` does elsewhere.
pub(crate) fn start() {
    // The ZooKeeper client reports every attempt to connect.
    let usual = || EnvFilter::new("info,zookeeper_client=error");
    let filter = EnvFilter::try_from_env("TRILITH_LOG").unwrap_or_else(|_| usual());
    let log = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    if let Some(journal) = journal {
        log.with(journal.with_syslog_identifier("trilith-wave".into())).init();
        return;
    }
    log.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false))
        .init();
}
