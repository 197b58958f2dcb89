//! The journal: how much of it is kept, and the log server that it is sent to.
//!
//! The journal keeps everything on `/var`. Where the cluster file names a log server, rsyslog reads the journal and
//! sends it on: it knows the three ways of syslog, TLS among them, and keeps what the server could not take yet.

use super::tls::{self, Names};
use super::{Facts, HEADER};
use crate::config::{LogProtocol, LogRemote};
use crate::names::Host;
use crate::services::{Desired, File, Owner, UnitName, UnitWish};

/// The journal's unit: systemd's own, which the agent only ever restarts.
pub const JOURNALD_UNIT: UnitName = UnitName::fixed("systemd-journald.service");
/// The unit that sends the journal on, where there is a log server.
pub const RSYSLOG_UNIT: UnitName = UnitName::fixed("rsyslog.service");

/// How much journald keeps.
pub const JOURNALD: &str = "/etc/systemd/journald.conf.d/60-trilith.conf";
/// rsyslog's configuration.
pub const RSYSLOG: &str = "/etc/rsyslog.conf";
/// The folder of the certificate by which the log server knows the node.
pub const SECRETS: &str = "/run/trilith/rsyslog";
/// The authorities of the world (Debian's `ca-certificates`).
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The journal on every node, and its sending where the cluster file names a log server.
pub fn desired(facts: Facts<'_>) -> Desired {
    let mut desired = Desired::default();
    desired.files.insert(JOURNALD.into(), File::new(journald(facts)));
    desired.units.insert(JOURNALD_UNIT, UnitWish::default().restarts_on(JOURNALD));
    if let Some(remote) = &facts.config.settings.logging.remote {
        desired.add(sent(facts, remote));
    }
    desired
}

fn sent(facts: Facts<'_>, remote: &LogRemote) -> Desired {
    let mut desired = Desired::default();
    let mut wish = UnitWish::default().restarts_on(RSYSLOG);
    if remote.protocol == LogProtocol::SyslogTls {
        let names = Names { authority: None, certificates: &["node.pem"], keys: &["node.key"] };
        let owner = Owner::new("rsyslog", "rsyslog");
        desired = tls::apart(&facts.secrets.identity, SECRETS, &owner, &names);
        wish = wish.restarts_on(format!("{SECRETS}/"));
    }
    desired.files.insert(RSYSLOG.into(), File::new(rsyslog(facts, remote)));
    desired.units.insert(RSYSLOG_UNIT, wish);
    desired
}

/// journald's drop-in.
fn journald(facts: Facts<'_>) -> String {
    let keep = facts.config.settings.logging.keep.bytes();
    format!("{HEADER}[Journal]\nSystemMaxUse={keep}\n")
}

/// `rsyslog.conf`.
fn rsyslog(facts: Facts<'_>, remote: &LogRemote) -> String {
    let LogRemote { address, protocol } = remote;
    let (transport, extra) = match protocol {
        LogProtocol::SyslogTls => ("tcp", encrypted(&address.host)),
        LogProtocol::SyslogTcp => ("tcp", String::new()),
        LogProtocol::SyslogUdp => ("udp", String::new()),
    };
    let framing = match protocol {
        LogProtocol::SyslogUdp => "",
        LogProtocol::SyslogTls | LogProtocol::SyslogTcp => {
            "\n  TCP_Framing=\"octet-counted\" KeepAlive=\"on\""
        }
    };
    format!(
        "{HEADER}\
global(workDirectory=\"/var/spool/rsyslog\" localHostname=\"{name}\")
# Where it stopped is kept, so that nothing is sent twice or lost over a restart.
module(load=\"imjournal\" StateFile=\"imjournal.state\" FileCreateMode=\"0600\" Ratelimit.Interval=\"0\")

action(type=\"omfwd\"
  target=\"{host}\" port=\"{port}\" protocol=\"{transport}\" template=\"RSYSLOG_SyslogProtocol23Format\"{framing}{extra}
  # A server that is away is tried again for ever; meanwhile up to 256 MiB wait on disk.
  action.resumeRetryCount=\"-1\" action.resumeInterval=\"5\" action.resumeIntervalMax=\"60\"
  queue.type=\"LinkedList\" queue.filename=\"remote\" queue.maxDiskSpace=\"256m\" queue.saveOnShutdown=\"on\")
",
        name = facts.full_name(facts.node),
        host = address.host,
        port = address.port,
    )
}

/// The server proves its name by a certificate of an authority that Debian's `ca-certificates` trusts, or that a site's
/// own image adds there; the node shows its own certificate.
fn encrypted(host: &Host) -> String {
    format!(
        "
  StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"{host}\"
  StreamDriver.CAFile=\"{AUTHORITIES}\"
  StreamDriver.CertFile=\"{SECRETS}/node.pem\" StreamDriver.KeyFile=\"{SECRETS}/node.key\""
    )
}
