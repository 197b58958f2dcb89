//! libvirt on this node: where a machine is, and its move.
//!
//! The daemons move a machine between them (peer to peer), by TLS; who has asked for it may go away meanwhile. It is live,
//! and as plain as can be: it neither slows a machine down to be done sooner (auto-converge) nor runs it on the other
//! node before all its memory is there (post-copy), since then a fault of the network would lose it. A machine whose
//! memory changes faster than the network carries it stays here after a while, and somebody is told.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use trilith_core::evacuate::{Move, Seen, limit};
use trilith_core::render::libvirt::SECRETS;
use trilith_libvirt::{News, Session, abort_job, turn_events};
use virt::connect::Connect;
use virt::domain::{Domain, MigrateParameters};
use virt::error::{Error, ErrorNumber};
use virt::sys;

/// The daemon on this node, by its own socket: libvirt would else look for the many small ones first.
const HERE: &str = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock";
/// Seconds between two keep-alives on a silent connection, and how many may stay unanswered.
const KEEP_ALIVE: (i32, u32) = (5, 3);
/// How often it is looked how far a move is: libvirt does not tell.
const LOOK: Duration = Duration::from_secs(1);

/// The daemon could not be asked.
#[derive(Debug)]
pub(crate) struct Away(String);

/// Why a machine has not moved.
#[derive(Debug)]
pub(crate) enum MoveError {
    /// The daemon says so.
    Refused(String),
    /// It has ended meanwhile, as by itself.
    Ended,
    /// Nobody knows: the connection to the daemon ended meanwhile.
    Lost(Away),
}

/// What libvirt does to a machine, by whomever it was asked.
pub(crate) struct Job {
    /// How far it is.
    pub(crate) percent: u64,
    /// For how long it has been at it.
    pub(crate) seconds: u64,
    /// Whether that is longer than a move may take.
    pub(crate) is_late: bool,
}

/// A connection.
pub(crate) struct Hypervisor {
    session: Session,
    news: Receiver<()>,
}

impl Hypervisor {
    pub(crate) fn connect() -> Result<Self, Away> {
        turn_events().map_err(Away)?;
        // One piece of news that has not been taken stands for all.
        let (tell, news): (SyncSender<()>, _) = mpsc::sync_channel(1);
        let listener = Box::new(move |_: News| _ = tell.try_send(()));
        let session = Session::open(HERE, listener)?;
        session.connect().set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)?;
        Ok(Self { session, news })
    }

    fn connection(&self) -> &Connect {
        self.session.connect()
    }

    /// Waits until a machine starts, ends or moves, for so long at most.
    pub(crate) fn wait(&self, at_most: Duration) {
        // Whichever it is, everything is looked at anew.
        let _news = self.news.recv_timeout(at_most);
    }

    /// Whether a machine runs here.
    pub(crate) fn look(&self, uuid: &str) -> Result<Seen, Away> {
        let looked =
            self.domain(uuid).and_then(|domain| domain.as_ref().map_or(Ok(Seen::Away), seen));
        match looked {
            // It has ended meanwhile.
            Err(error) if gone(&error) => Ok(Seen::Away),
            looked => Ok(looked?),
        }
    }

    /// The machine, if it is known here.
    fn domain(&self, uuid: &str) -> Result<Option<Domain>, Error> {
        match Domain::lookup_by_uuid_string(self.connection(), uuid) {
            Ok(domain) => Ok(Some(domain)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What libvirt does to a machine.
    pub(crate) fn job(&self, uuid: &str) -> Option<Job> {
        let domain = self.domain(uuid).ok()??;
        let job = domain.get_job_info().ok()?;
        let memory = domain.get_info().ok()?.max_mem.saturating_mul(1024);
        let seconds = job.time_elapsed.unwrap_or_default() / 1000;
        let percent = percent(&domain).unwrap_or_default();
        Some(Job { percent, seconds, is_late: seconds > limit(memory) })
    }

    /// Moves a machine; `progress` hears how far it is. In the end it is here or there, and nowhere else.
    pub(crate) fn go(&self, to: &Move, mut progress: impl FnMut(u64)) -> Result<(), MoveError> {
        let refused =
            |error: Error| if gone(&error) { MoveError::Ended } else { self.judge(&error) };
        let domain = self.domain(&to.machine).map_err(refused)?.ok_or(MoveError::Ended)?;
        let flags = flags(domain.is_persistent().map_err(refused)?);
        let memory = domain.get_info().map_err(refused)?.max_mem.saturating_mul(1024);
        let uri = format!("qemu+tls://{}/system?pkipath={SECRETS}", to.to);
        let end = Instant::now() + Duration::from_secs(limit(memory));
        let (tell, told) = mpsc::channel();
        let (domain, uri) = (&domain, uri.as_str());
        let moved = thread::scope(|scope| {
            let none = MigrateParameters::default();
            scope.spawn(move || tell.send(domain.migrate_to_uri3(Some(uri), none, flags)));
            follow(domain, &told, end, &mut progress)
        });
        match moved {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) if self.look(&to.machine).ok() == Some(Seen::Away) => {
                Err(MoveError::Ended)
            }
            Some(Err(_)) if Instant::now() >= end => {
                let why = format!(
                    "it was not done after {} s, its memory changes too fast",
                    limit(memory)
                );
                Err(MoveError::Refused(why))
            }
            Some(Err(error)) => Err(self.judge(&error)),
            None => Err(MoveError::Lost(Away("the thread that calls libvirt has ended".into()))),
        }
    }

    /// Whether it is the machine that cannot be moved, or the daemon that cannot be asked.
    fn judge(&self, error: &Error) -> MoveError {
        let why = error.message().to_owned();
        if self.connection().is_alive() == Ok(true) {
            MoveError::Refused(why)
        } else {
            MoveError::Lost(Away(why))
        }
    }
}

/// Until the move is over. At its time's end it is broken off, which leaves the machine here.
fn follow(
    domain: &Domain,
    told: &Receiver<Result<(), Error>>,
    end: Instant,
    progress: &mut impl FnMut(u64),
) -> Option<Result<(), Error>> {
    loop {
        match told.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            // It may be over by now, and then there is nothing to break off.
            Err(RecvTimeoutError::Timeout) if Instant::now() >= end => _ = abort_job(domain),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(percent) = percent(domain) {
                    progress(percent);
                }
            }
        }
    }
}

/// A machine that would outlive the daemon's restart does so there as well, and no more here.
fn flags(persistent: bool) -> u32 {
    let always = sys::VIR_MIGRATE_LIVE
        | sys::VIR_MIGRATE_PEER2PEER
        | sys::VIR_MIGRATE_TLS
        | sys::VIR_MIGRATE_ABORT_ON_ERROR;
    let lasting = sys::VIR_MIGRATE_PERSIST_DEST | sys::VIR_MIGRATE_UNDEFINE_SOURCE;
    if persistent { always | lasting } else { always }
}

fn seen(domain: &Domain) -> Result<Seen, Error> {
    if !domain.is_active()? {
        return Ok(Seen::Away);
    }
    let job = domain.get_job_info()?.r#type.cast_unsigned();
    Ok(if job == sys::VIR_DOMAIN_JOB_NONE { Seen::Here } else { Seen::Busy })
}

/// How far the job is that libvirt has for a machine.
fn percent(domain: &Domain) -> Option<u64> {
    let job = domain.get_job_info().ok()?;
    let (total, remaining) = (job.data_total?, job.data_remaining?);
    (total.saturating_sub(remaining) * 100).checked_div(total)
}

/// Whether a machine is not there, or not running any more.
fn gone(error: &Error) -> bool {
    matches!(error.code(), ErrorNumber::NoDomain | ErrorNumber::OperationInvalid)
}

impl From<Error> for Away {
    fn from(error: Error) -> Self {
        Self(error.message().to_owned())
    }
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "libvirt does not answer: {}", self.0)
    }
}
