//! What the crate `virt` (0.4.3) lacks of libvirt: events of machines, the end of a connection, a secret's value that is
//! wiped and given back, and the end of a job. The rest is `virt`'s.
//!
//! All `unsafe` code of the repository is here: a few calls of C with callbacks, each with the reason why it holds.

use std::ffi::{CStr, c_int, c_void};
use std::sync::{Arc, OnceLock};
use std::{mem, ptr, slice, thread};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber, clear_error_callback};
use virt::event::{event_register_default_impl, event_run_default_impl};
use virt::secret::Secret;
use virt::sys;
use zeroize::{Zeroize as _, Zeroizing};

/// What libvirt tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A machine was defined, started, stopped, …
    Machine {
        /// Its name.
        name: String,
        /// What happened, for people.
        what: &'static str,
    },
    /// A secret was made, given another value or removed.
    Secret,
    /// The connection has ended, with the reason, for people. Nothing more comes from it.
    Closed(&'static str),
}

/// Who is told. It is called in the thread of libvirt's events, and must not wait for anything there.
pub type Listener = dyn Fn(News) + Send + Sync;

/// Why libvirt's events are not followed any more.
static ENDED: OnceLock<String> = OnceLock::new();

/// Turns libvirt's event loop in a thread of its own for as long as the program runs, from the first call on. To be
/// called before each connection is made; an error says why there is no loop, or none any more.
pub fn turn_events() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(start_to_turn).clone()?;
    ENDED.get().map_or(Ok(()), |why| Err(why.clone()))
}

fn start_to_turn() -> Result<(), String> {
    clear_error_callback(); // else every error is also printed
    event_register_default_impl().map_err(|error| error.message().to_owned())?;
    let turn = || {
        let error = loop {
            if let Err(error) = event_run_default_impl() {
                break error;
            }
        };
        let _first = ENDED.set(error.message().to_owned());
    };
    let thread = thread::Builder::new().name("libvirt-events".into());
    thread.spawn(turn).map(drop).map_err(|error| error.to_string())
}

/// A connection that tells of machines and of its own end.
#[derive(Debug)]
pub struct Session {
    connect: Connect,
    /// The numbers of the callbacks for secrets.
    secrets: Vec<c_int>,
}

/// What the callbacks get: thin, as a pointer of C is.
type Hearer = Box<Listener>;

impl Session {
    /// Connects; `listener` is told what happens from now on. [`turn_events`] was called before.
    pub fn open(uri: &str, listener: Box<Listener>) -> Result<Self, Error> {
        // Closed when dropped, also if what follows fails.
        let mut session = Self { connect: Connect::open(Some(uri))?, secrets: Vec::new() };
        let listener = Arc::new(listener);
        session.hear_of_the_end(Arc::clone(&listener))?;
        session.hear_of_machines(Arc::clone(&listener))?;
        session.hear_of_secrets(&listener)?;
        Ok(session)
    }

    /// The connection, for everything else.
    pub fn connect(&self) -> &Connect {
        &self.connect
    }

    fn hear_of_the_end(&self, listener: Arc<Hearer>) -> Result<(), Error> {
        let opaque = given(listener);
        // SAFETY: the connection is open; `closed` takes what `given` gave, and libvirt calls `release` with it once,
        // when it will not call `closed` any more.
        let code = unsafe {
            sys::virConnectRegisterCloseCallback(
                self.connect.as_ptr(),
                Some(closed),
                opaque,
                Some(release),
            )
        };
        taken(code, opaque)
    }

    /// By the older of two calls, which takes this callback as it is: the newer one wants it cast from another type.
    fn hear_of_machines(&self, listener: Arc<Hearer>) -> Result<(), Error> {
        let opaque = given(listener);
        // SAFETY: as above, with `happened`.
        let code = unsafe {
            sys::virConnectDomainEventRegister(
                self.connect.as_ptr(),
                Some(happened),
                opaque,
                Some(release),
            )
        };
        taken(code, opaque)
    }

    /// A driver that knows no secrets has no news of them.
    fn hear_of_secrets(&mut self, listener: &Arc<Hearer>) -> Result<(), Error> {
        type Changed = unsafe extern "C" fn(sys::virConnectPtr, sys::virSecretPtr, *mut c_void);
        // SAFETY: libvirt's own way to register callbacks of different types by one call (the macro
        // VIR_SECRET_EVENT_CALLBACK): it calls one for this event with all five arguments.
        let lifecycle = unsafe { mem::transmute::<SecretLifecycle, Changed>(secret_came_or_went) };
        let events = [
            (sys::VIR_SECRET_EVENT_ID_LIFECYCLE, lifecycle),
            (sys::VIR_SECRET_EVENT_ID_VALUE_CHANGED, secret_changed as Changed),
        ];
        for (event, callback) in events {
            let opaque = given(Arc::clone(listener));
            // SAFETY: as above; no secret stands for all of them.
            let code = unsafe {
                sys::virConnectSecretEventRegisterAny(
                    self.connect.as_ptr(),
                    ptr::null_mut(),
                    event.cast_signed(),
                    Some(callback),
                    opaque,
                    Some(release),
                )
            };
            match taken(code, opaque) {
                Ok(()) => self.secrets.push(code),
                Err(error) if error.code() == ErrorNumber::NoSupport => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a secret's coming and going is told to.
type SecretLifecycle = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virSecretPtr,
    event: c_int,
    detail: c_int,
    *mut c_void,
);

/// Closes the connection. On one that is broken these calls fail at once, and there is nobody to tell.
impl Drop for Session {
    fn drop(&mut self) {
        let connection = self.connect.as_ptr();
        // SAFETY: the connection is open, or broken and not yet closed. One that was not registered is an error of
        // the call and nothing else.
        let _code = unsafe { sys::virConnectDomainEventDeregister(connection, Some(happened)) };
        // SAFETY: as above.
        let _code = unsafe { sys::virConnectUnregisterCloseCallback(connection, Some(closed)) };
        for number in &self.secrets {
            // SAFETY: as above.
            let _code = unsafe { sys::virConnectSecretEventDeregisterAny(connection, *number) };
        }
        let _references = self.connect.close();
    }
}

/// One share of the listener as C carries it.
fn given(listener: Arc<Hearer>) -> *mut c_void {
    Arc::into_raw(listener).cast_mut().cast()
}

/// Whether libvirt has taken what was given to it.
fn taken(code: c_int, opaque: *mut c_void) -> Result<(), Error> {
    if code >= 0 {
        return Ok(());
    }
    let error = Error::last_error();
    // SAFETY: a registration that failed calls `release` never, so this is the one time.
    unsafe { release(opaque) };
    Err(error)
}

/// # Safety
/// `opaque` is from [`given`], and this is the only call of this function with it.
unsafe extern "C" fn release(opaque: *mut c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Arc::from_raw(opaque.cast::<Hearer>()) });
}

/// # Safety
/// `opaque` is from [`given`] and not released; `machine` is a machine or null.
unsafe extern "C" fn happened(
    _connection: sys::virConnectPtr,
    machine: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise; it lives at least until this call ends.
    let listener = unsafe { &*opaque.cast::<Hearer>() };
    // SAFETY: libvirt answers null to null.
    let name = unsafe { sys::virDomainGetName(machine) };
    let name = if name.is_null() {
        String::new()
    } else {
        // SAFETY: a text of the machine's, which lives at least until this call ends.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    listener(News::Machine { name, what: what(event, detail) });
    0
}

/// # Safety
/// `opaque` is from [`given`] and not released.
unsafe extern "C" fn secret_came_or_went(
    connection: sys::virConnectPtr,
    secret: sys::virSecretPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: the caller's promise.
    unsafe { secret_changed(connection, secret, opaque) };
}

/// # Safety
/// `opaque` is from [`given`] and not released.
unsafe extern "C" fn secret_changed(
    _connection: sys::virConnectPtr,
    _secret: sys::virSecretPtr,
    opaque: *mut c_void,
) {
    // SAFETY: the caller's promise.
    let listener = unsafe { &*opaque.cast::<Hearer>() };
    listener(News::Secret);
}

/// # Safety
/// `opaque` is from [`given`] and not released.
unsafe extern "C" fn closed(_connection: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: the caller's promise.
    let listener = unsafe { &*opaque.cast::<Hearer>() };
    listener(News::Closed(match reason.cast_unsigned() {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "the daemon has ended it",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "the daemon does not answer any more",
        sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "it was closed here",
        _ => "an error of the connection",
    }));
}

/// What happened to a machine (`virDomainEventType` and its details).
fn what(event: c_int, detail: c_int) -> &'static str {
    match (event.cast_unsigned(), detail.cast_unsigned()) {
        (sys::VIR_DOMAIN_EVENT_DEFINED, _) => "was defined",
        (sys::VIR_DOMAIN_EVENT_UNDEFINED, _) => "is no longer defined",
        (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED) => {
            "comes from another node"
        }
        (sys::VIR_DOMAIN_EVENT_STARTED, _) => "has started",
        (sys::VIR_DOMAIN_EVENT_SUSPENDED, _) => "stands still",
        (sys::VIR_DOMAIN_EVENT_RESUMED, _) => "runs on",
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) => "has shut down",
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED) => {
            "was switched off"
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED)
        | (sys::VIR_DOMAIN_EVENT_CRASHED, _) => "has crashed",
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED) => {
            "has gone to another node"
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED) => "has failed",
        (sys::VIR_DOMAIN_EVENT_STOPPED, _) => "has stopped",
        (sys::VIR_DOMAIN_EVENT_SHUTDOWN, _) => "shuts down",
        _ => "has changed",
    }
}

/// Breaks off what libvirt is doing with a machine, such as its move to another node. The machine stays as it was before.
pub fn abort_job(machine: &Domain) -> Result<(), Error> {
    // SAFETY: the machine is valid as long as it is borrowed.
    let code = unsafe { sys::virDomainAbortJob(machine.as_ptr()) };
    if code == 0 { Ok(()) } else { Err(Error::last_error()) }
}

/// A secret's value. libvirt's own copy is wiped and freed; [`Secret::get_value`] keeps one in memory for ever.
pub fn value_of(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut size = 0;
    // SAFETY: the secret is valid as long as it is borrowed, and `size` is written in the call alone.
    let bytes = unsafe { sys::virSecretGetValue(secret.as_ptr(), &raw mut size, 0) };
    if bytes.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt gave so many bytes, to us alone.
    let given = unsafe { slice::from_raw_parts_mut(bytes, size) };
    let value = Zeroizing::new(given.to_vec());
    given.zeroize();
    // SAFETY: virSecretGetValue(3): the caller frees it; nothing refers to it any more.
    unsafe { libc::free(bytes.cast()) };
    Ok(value)
}
