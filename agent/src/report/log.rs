//! Where log lines go: natively to the journal, with their fields, when systemd runs the agent; else to stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The journal; on a node, where the console is for news.
    Journal,
    /// A person at a terminal.
    Person,
}

/// Starts logging. `TRILITH_LOG` filters as `RUST_LOG` does elsewhere; the default is `info`.
pub(crate) fn start() -> Reader {
    let filter = EnvFilter::try_from_env("TRILITH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::registry().with(filter);
    // systemd sets it when it connected the output to the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    if let Some(journal) = journal {
        // Fields become TRILITH_SUBJECT=network and the like, to be asked for by `journalctl`.
        let journal = journal.with_field_prefix(Some("TRILITH".into()));
        log.with(journal.with_syslog_identifier("trilithd".into())).init();
        return Reader::Journal;
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    log.with(lines).init();
    Reader::Person
}
