//! The passwords of Postgres' accounts, in the database of a leader.
//!
//! psql asks by the Unix socket. It is asked once for each start of Postgres and for each set of passwords, since
//! nobody else changes them.

use std::collections::{BTreeMap, BTreeSet};

use ring::rand::{SecureRandom as _, SystemRandom};
use trilith_core::patroni::{Account, Answer, Desired, Server, scram};
use trilith_core::render::patroni::{PROGRAMS, RUNTIME};
use trilith_core::secrets::Secret;

use crate::system::exec::{self, ExecError};

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    #[error("the database cannot be asked for its accounts")]
    Ask(#[source] ExecError),
    #[error("the password of {} cannot be set", .0.name())]
    Set(Account, #[source] ExecError),
    #[error("the system has no randomness")]
    Random,
}

/// What the last look was about.
#[derive(Default)]
pub(super) struct Accounts {
    port: u16,
    passwords: BTreeMap<Account, Secret>,
    /// The start and the line of history of the Postgres that has these passwords.
    right: Option<(Option<String>, Option<u64>)>,
}

impl Accounts {
    /// Of a leader: the accounts that have another password than they must.
    pub(super) async fn stale(
        &mut self,
        desired: &Desired,
        server: &Server,
    ) -> Result<BTreeSet<Account>, AccountError> {
        let Some(answer) = leading(server) else { return Ok(BTreeSet::new()) };
        let postgres = Some((answer.since.clone(), answer.timeline));
        if self.passwords == desired.accounts && self.right == postgres {
            return Ok(BTreeSet::new());
        }
        self.passwords.clone_from(&desired.accounts);
        self.port = desired.port;
        let names = Account::ALL.map(|account| format!("'{}'", account.name())).join(", ");
        let query =
            format!("SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ({names});");
        let text = self.sql(&query).await.map_err(AccountError::Ask)?;
        let verifiers: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('|')).collect();
        let fits = |(account, password): &(&Account, &Secret)| {
            verifiers.get(account.name()).is_some_and(|verifier| scram::fits(verifier, password))
        };
        let stale = self.passwords.iter().filter(|one| !fits(one)).map(|(account, _)| *account);
        let stale: BTreeSet<Account> = stale.collect();
        self.right = postgres.filter(|_| stale.is_empty());
        Ok(stale)
    }

    /// Gives an account its password. What is sent, and what Postgres might log, is not the password itself.
    pub(super) async fn set(&mut self, account: Account) -> Result<(), AccountError> {
        let Some(password) = self.passwords.get(&account) else { return Ok(()) };
        let mut salt = [0; scram::SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| AccountError::Random)?;
        let verifier = scram::verifier(password, &salt);
        // Neither has a character that would have to be escaped.
        let order = format!("ALTER ROLE \"{}\" PASSWORD '{verifier}';", account.name());
        self.sql(&order).await.map_err(|source| AccountError::Set(account, source)).map(drop)
    }

    async fn sql(&self, text: &str) -> Result<String, ExecError> {
        let (host, port) = (format!("--host={RUNTIME}"), format!("--port={}", self.port));
        let args = [
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--username=postgres",
            "--dbname=postgres",
            &host,
            &port,
            "--file=-",
        ];
        exec::tell(&format!("{PROGRAMS}/psql"), &args, text).await
    }
}

fn leading(server: &Server) -> Option<&Answer> {
    match server {
        Server::Up(answer) if answer.leads() && answer.state == "running" => Some(answer),
        Server::Up(_) | Server::Away(_) => None,
    }
}
