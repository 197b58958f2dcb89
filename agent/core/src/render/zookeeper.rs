//! ZooKeeper 3.9: an ensemble of the coordinators, numbered by node ID.
//!
//! It speaks TLS alone, to its members and to its clients, and only to holders of a certificate of the cluster. What
//! is stored belongs to the accounts that made it. It never founds an ensemble by itself (`db.autocreate=false`): a
//! server without data joins the others, unless the agent leaves a file `initialize` in its data directory.

use std::fmt::Write as _;

use super::tls::{self, Names};
use super::{Facts, HEADER, PERMITS, before_others, bracketed, ports};
use crate::config::NetworkName;
use crate::services::{Desired, File, Owner, UnitName, UnitWish};
use crate::turns;

/// The unit, on coordinators.
pub const UNIT: UnitName = UnitName::fixed("zookeeper.service");

/// Where ZooKeeper keeps its data.
pub const DATA: &str = "/var/lib/zookeeper";
/// The configuration.
pub const CONFIG: &str = "/etc/zookeeper/zoo.cfg";
/// What the unit's environment takes from the cluster file.
pub const ENVIRONMENT: &str = "/etc/zookeeper/java.env";
/// The folder of its certificates.
pub const SECRETS: &str = "/run/trilith/zookeeper";

/// ZooKeeper on a coordinator; nothing elsewhere.
///
/// It starts when the subject `zookeeper` has found its data directory right, and restarts for a changed file when it
/// is this node's turn.
pub fn desired(facts: Facts<'_>) -> Desired {
    if !facts.coordinates() {
        return Desired::default();
    }
    let owner = Owner::new("zookeeper", "zookeeper");
    let identity = &facts.secrets.identity;
    let names = Names { authority: Some("authority.pem"), certificates: &[], keys: &[] };
    let mut desired = tls::apart(identity, SECRETS, &owner, &names);
    let node = File::secret(tls::key_and_certificate(identity), owner);
    desired.files.insert(format!("{SECRETS}/node.pem"), node);
    desired.files.insert(CONFIG.into(), File::new(config(facts)));
    desired.files.insert(ENVIRONMENT.into(), File::new(environment(facts)));
    let wish = UnitWish::default()
        .restarts_on(CONFIG)
        .restarts_on(ENVIRONMENT)
        .restarts_on(format!("{SECRETS}/"))
        .needs(format!("{PERMITS}/zookeeper"))
        .asks(turns::permit("zookeeper"))
        .limited(before_others());
    desired.units.insert(UNIT, wish);
    desired
}

/// `zoo.cfg`.
fn config(facts: Facts<'_>) -> String {
    let settings = &facts.config.settings.zookeeper;
    let own = facts.own(NetworkName::Cluster);
    let tick = settings.tick.as_duration().as_millis();
    // ZooKeeper's own bound, but never so low that it would cut Patroni's lease short.
    let lease = facts.config.settings.postgres.patroni.ttl.as_duration().as_millis();
    let mut text = format!(
        "{HEADER}\
tickTime={tick}
initLimit={init}
syncLimit={sync}
maxClientCnxns={connections}
maxSessionTimeout={session}
dataDir={DATA}
autopurge.snapRetainCount=3
autopurge.purgeInterval=1

# A server without data waits for those who have it; only the agent allows to found.
db.autocreate=false
# The members are those of the cluster file.
reconfigEnabled=false
# A single coordinator is an ensemble of one: the same code, ports and TLS.
standaloneEnabled=false
admin.enableServer=false
4lw.commands.whitelist=srvr,mntr

# To close a TLS connection with a machine that is gone takes 10 s, for which the next election would wait.
learner.closeSocketAsync=true
leader.closeSocketAsync=true
# A server that has been alone asks for the others every 5 s and not, in the end, once a minute.
fastleader.maxNotificationInterval=5000

# TLS alone: there is no clientPort.
secureClientPort={client}
secureClientPortAddress={own}
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
sslQuorum=true
",
        session = lease.max(20 * tick),
        init = settings.init_limit,
        sync = settings.sync_limit,
        connections = settings.max_connections,
        client = ports::ZOOKEEPER,
    );
    text.push_str(&tls("ssl"));
    text.push_str(&tls("ssl.quorum"));
    // A client is known by its certificate, whatever address it comes from; members are checked by address.
    text.push_str("ssl.clientHostnameVerification=false\nssl.quorum.hostnameVerification=true\n\n");
    for (node, address) in facts.coordinators(NetworkName::Cluster) {
        let (quorum, election) = (ports::ZOOKEEPER_QUORUM, ports::ZOOKEEPER_ELECTION);
        let address = bracketed(address);
        let _ = writeln!(text, "server.{}={address}:{quorum}:{election}", node.id);
    }
    text
}

/// The same certificate and the same demand towards clients (`ssl`) and members (`ssl.quorum`).
fn tls(prefix: &str) -> String {
    format!(
        "{prefix}.keyStore.location={SECRETS}/node.pem
{prefix}.keyStore.type=PEM
{prefix}.trustStore.location={SECRETS}/authority.pem
{prefix}.trustStore.type=PEM
{prefix}.clientAuth=need
{prefix}.protocol=TLSv1.3
{prefix}.enabledProtocols=TLSv1.3
"
    )
}

/// What the unit needs to start Java.
fn environment(facts: Facts<'_>) -> String {
    let heap = facts.config.settings.zookeeper.heap.bytes() >> 20;
    format!("{HEADER}HEAP_MIB={heap}\n")
}
