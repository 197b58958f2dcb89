//! What stands in ZooKeeper: the wish, the turn, the lock, every node's word, and who is there.
//!
//! All of it belongs to the account of the agents: nobody else can read or write it. A change names the version of what
//! it was decided from, so that ZooKeeper refuses it when that is not so any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trilith_core::names::NodeId;
use trilith_core::wave::settings::{ACCOUNT, SECRETS, Settings, TREE};
use trilith_core::wave::word::Word;
use trilith_core::wave::{Asked, Next, Phase, Step, Turn, Wish, blind};
use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, Error, Permission, PersistentWatcher,
    TlsCa, TlsCerts, TlsIdentity, TlsOptions,
};

/// How long a node may be silent before the others see it: after that its lock is gone.
const SESSION: Duration = Duration::from_secs(10);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    #[error("ZooKeeper: {0}")]
    Client(#[from] Error),
    #[error("cannot read the node's certificate in {SECRETS}: {0}")]
    Certificate(#[from] std::io::Error),
    #[error(
        "{path} in ZooKeeper is not understood, perhaps because a newer release wrote it: {source}"
    )]
    Form { path: String, source: serde_json::Error },
    #[error("a session of this node that has ended still holds the lock")]
    Former,
    #[error("somebody else has changed it meanwhile")]
    Changed,
}

/// A session.
pub(crate) struct Keeper {
    client: Client,
    me: NodeId,
    acl: Vec<Acl>,
}

/// What was seen, with the versions by which it is changed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) wish: Option<(Wish, i32)>,
    pub(crate) turn: Option<(Turn, i32)>,
    pub(crate) lock: Option<NodeId>,
    pub(crate) words: BTreeMap<NodeId, Word>,
    pub(crate) alive: BTreeSet<NodeId>,
}

impl Seen {
    /// Whether there is anything to decide for which Ceph matters.
    pub(crate) fn is_busy(&self) -> bool {
        let wanted = |(wish, _): &(Wish, i32)| wish.state == Asked::Running;
        self.turn.is_some() || self.wish.as_ref().is_some_and(wanted)
    }
}

impl Keeper {
    /// Connects, and makes what everything else stands on.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, KeeperError> {
        let account = format!("{ACCOUNT}:{}", settings.password);
        let connector = Client::connector()
            .with_session_timeout(SESSION)
            .with_auth("digest", account.as_bytes())
            .with_tls(tls(Path::new(SECRETS))?);
        let client = connector.secure_connect(&settings.keepers.join(",")).await?;
        let keeper = Self::new(client, settings.node, &account);
        keeper.found().await?;
        Ok(keeper)
    }

    fn new(client: Client, me: NodeId, account: &str) -> Self {
        let owner = AuthId::new("digest", &identity(account));
        Self { client, me, acl: vec![Acl::new(Permission::ALL, owner)] }
    }

    async fn found(&self) -> Result<(), KeeperError> {
        let options = CreateMode::Persistent.with_acls(Acls::new(&self.acl));
        for folder in ["nodes", "alive"] {
            self.client.mkdir(&format!("{TREE}/{folder}"), &options).await?;
        }
        Ok(())
    }

    /// Shows that this node is there, for as long as the session lasts.
    pub(crate) async fn appear(&self) -> Result<(), KeeperError> {
        let path = format!("{TREE}/alive/{}", self.me);
        let options = CreateMode::Ephemeral.with_acls(Acls::new(&self.acl));
        match self.client.create(&path, b"", &options).await {
            Ok(_) | Err(Error::NodeExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// This node is there and cannot say where it stands: it lets the lock go, and to the others it is silent. Both would
    /// last as long as its session, which goes on.
    pub(crate) async fn withdraw(&self) -> Result<(), KeeperError> {
        let lock = match self.holder().await {
            Ok(lock) => lock,
            // A lock that is not this session's.
            Err(KeeperError::Form { .. } | KeeperError::Former) => None,
            Err(error) => return Err(error),
        };
        if blind(self.me, lock) == Next::Do(Step::Unlock) {
            self.unlock().await?;
        }
        absent(self.client.delete(&format!("{TREE}/alive/{}", self.me), None).await)
    }

    fn session(&self) -> i64 {
        self.client.session_id().0
    }

    /// Sees every change below the tree.
    pub(crate) async fn watch(&self) -> Result<PersistentWatcher, KeeperError> {
        Ok(self.client.watch(TREE, AddWatchMode::PersistentRecursive).await?)
    }

    /// Reads all of it. Words that are not understood are as good as none.
    pub(crate) async fn look(&self) -> Result<Seen, KeeperError> {
        // What another server has agreed to is seen by this one as well.
        self.client.sync(TREE).await?;
        let mut seen = Seen {
            wish: self.read(&format!("{TREE}/wish")).await?,
            turn: self.read(&format!("{TREE}/turn")).await?,
            lock: self.holder().await?,
            alive: self.list("alive").await?,
            ..Seen::default()
        };
        for node in self.list("nodes").await? {
            match self.read(&word(node)).await {
                Ok(Some((said, _))) => _ = seen.words.insert(node, said),
                Ok(None) | Err(KeeperError::Form { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }

    async fn list(&self, folder: &str) -> Result<BTreeSet<NodeId>, KeeperError> {
        let names = self.client.list_children(&format!("{TREE}/{folder}")).await?;
        let id = |name: &String| NodeId::try_from(name.parse::<u16>().ok()?).ok();
        Ok(names.iter().filter_map(id).collect())
    }

    async fn holder(&self) -> Result<Option<NodeId>, KeeperError> {
        let path = format!("{TREE}/lock");
        let (data, stat) = match self.client.get_data(&path).await {
            Ok(found) => found,
            Err(Error::NoNode) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let holder: NodeId = parse(&path, &data)?;
        let former = holder == self.me && stat.ephemeral_owner != self.session();
        if former { Err(KeeperError::Former) } else { Ok(Some(holder)) }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, i32)>, KeeperError> {
        match self.client.get_data(path).await {
            Ok((data, stat)) => Ok(Some((parse(path, &data)?, stat.version))),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Says where this node stands.
    pub(crate) async fn say(&self, said: &Word) -> Result<(), KeeperError> {
        let path = word(self.me);
        match self.client.set_data(&path, &bytes(said), None).await {
            Err(Error::NoNode) => self.make(&path, said).await,
            other => Ok(other.map(|_| ())?),
        }
    }

    async fn make(&self, path: &str, value: &impl Serialize) -> Result<(), KeeperError> {
        let options = CreateMode::Persistent.with_acls(Acls::new(&self.acl));
        refused(self.client.create(path, &bytes(value), &options).await.map(|_| ()))
    }

    /// Puts a wish in the place of the one that was seen.
    pub(crate) async fn wish(&self, wish: &Wish, seen: &Seen) -> Result<(), KeeperError> {
        let path = format!("{TREE}/wish");
        match &seen.wish {
            None => self.make(&path, wish).await,
            Some((_, version)) => {
                refused(self.client.set_data(&path, &bytes(wish), Some(*version)).await.map(|_| ()))
            }
        }
    }

    /// Takes the lock. That somebody else was faster is no error: it is seen at the next look.
    pub(crate) async fn lock(&self) -> Result<(), KeeperError> {
        let options = CreateMode::Ephemeral.with_acls(Acls::new(&self.acl));
        let made = self.client.create(&format!("{TREE}/lock"), &bytes(&self.me), &options).await;
        match made {
            Ok(_) | Err(Error::NodeExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets it go. Only for who holds it.
    pub(crate) async fn unlock(&self) -> Result<(), KeeperError> {
        absent(self.client.delete(&format!("{TREE}/lock"), None).await)
    }

    /// Makes the turn, if there is none and the wish is the one that was seen.
    pub(crate) async fn begin(&self, turn: &Turn, seen: &Seen) -> Result<(), KeeperError> {
        let options = CreateMode::Persistent.with_acls(Acls::new(&self.acl));
        let mut writer = self.same_wish(seen)?;
        writer.add_create(&format!("{TREE}/turn"), &bytes(turn), &options)?;
        refused(writer.commit().await.map(|_| ()).map_err(Error::from))
    }

    /// Writes into the turn that this node activates in this boot, if turn and wish are those that were seen: a pause that
    /// was said meanwhile holds.
    pub(crate) async fn commit(&self, boot: &str, seen: &Seen) -> Result<(), KeeperError> {
        let (turn, version) = seen.turn.clone().ok_or(KeeperError::Changed)?;
        let turn = Turn { phase: Phase::Activated { boot: boot.to_owned() }, ..turn };
        let mut writer = self.same_wish(seen)?;
        writer.add_set_data(&format!("{TREE}/turn"), &bytes(&turn), Some(version))?;
        refused(writer.commit().await.map(|_| ()).map_err(Error::from))
    }

    fn same_wish(&self, seen: &Seen) -> Result<zookeeper_client::MultiWriter<'_>, KeeperError> {
        let (_, version) = seen.wish.as_ref().ok_or(KeeperError::Changed)?;
        let mut writer = self.client.new_multi_writer();
        writer.add_check_version(&format!("{TREE}/wish"), *version)?;
        Ok(writer)
    }

    /// Removes the turn that was seen.
    pub(crate) async fn end(&self, seen: &Seen) -> Result<(), KeeperError> {
        let (_, version) = seen.turn.as_ref().ok_or(KeeperError::Changed)?;
        refused(absent_or(self.client.delete(&format!("{TREE}/turn"), Some(*version)).await))
    }
}

fn word(node: NodeId) -> String {
    format!("{TREE}/nodes/{node}")
}

/// An account as ZooKeeper knows it (`DigestAuthenticationProvider`).
fn identity(account: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, account.as_bytes());
    format!("{ACCOUNT}:{}", BASE64_STANDARD.encode(hash))
}

fn tls(folder: &Path) -> Result<TlsOptions, KeeperError> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let identity = TlsIdentity::from_pem(&read("node.pem")?, &read("node.key")?)?;
    let authority = TlsCa::from_pem(&read("authority.pem")?)?;
    let certificates = TlsCerts::builder().with_ca(authority).with_identity(identity).build()?;
    Ok(TlsOptions::new().with_certs(certificates))
}

/// Plain values: they can always be written.
fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T, KeeperError> {
    serde_json::from_slice(data).map_err(|source| KeeperError::Form { path: path.into(), source })
}

fn absent_or(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(Error::NoNode) => Ok(()),
        other => other,
    }
}

fn absent(removed: Result<(), Error>) -> Result<(), KeeperError> {
    Ok(absent_or(removed)?)
}

/// What was seen is not so any more: it is looked at anew.
fn refused(done: Result<(), Error>) -> Result<(), KeeperError> {
    match done {
        Err(Error::BadVersion | Error::NodeExists | Error::NoNode | Error::RuntimeInconsistent) => {
            Err(KeeperError::Changed)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `DigestAuthenticationProvider.generateDigest` gives it for `trilith:secret`.
    #[test]
    fn an_account_is_known_by_its_digest() {
        let known = identity("trilith:secret");
        assert_eq!(known, "trilith:R6uQ6eg1zldPjDYh7oDKl5jT5ZY=");
    }
}
