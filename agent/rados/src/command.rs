//! A command to the monitors. `ceph_mon_command_without_data` of ceph 3.2.5 frees the text of a refusal before it copies it:
//! what it gives is no text then, or another one's, or the end of the program. So librados itself is called here.

use std::ffi::{CString, c_char};
use std::io;
use std::ptr;
use std::slice;

use ceph::ceph::Rados;
use ceph::rados::{rados_buffer_free, rados_mon_command};
use libc::size_t;

/// Bytes that librados has allocated.
struct Buffer {
    start: *mut c_char,
    length: size_t,
}

impl Buffer {
    /// One that librados fills in.
    const fn empty() -> Self {
        Self { start: ptr::null_mut(), length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: librados gives a start that is not null together with the length of what it allocated there, and nobody
        // else writes to it or frees it (librados.h, rados_mon_command).
        unsafe { slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // SAFETY: it comes from librados, is freed once, and nothing of it outlives this value (librados.h,
            // rados_buffer_free).
            unsafe { rados_buffer_free(self.start) };
        }
    }
}

/// Asks the monitors (librados.h, `rados_mon_command`); gives their answer.
///
/// # Errors
/// The monitors' refusal in their own words, or what the error number means where they have none.
pub(crate) fn ask(cluster: &Rados, command: &str) -> Result<Vec<u8>, String> {
    let command = CString::new(command).map_err(|_| "a command with a zero in it".to_owned())?;
    let mut first = command.as_ptr();
    let (mut answer, mut said) = (Buffer::empty(), Buffer::empty());
    // SAFETY: the connection stands as long as `cluster` lives; there is one command, which ends with a zero and outlives the
    // call, and no data; the four last are places of this function, which librados fills in.
    let code = unsafe {
        rados_mon_command(
            *cluster.inner(),
            &raw mut first,
            1,
            ptr::null(),
            0,
            &raw mut answer.start,
            &raw mut answer.length,
            &raw mut said.start,
            &raw mut said.length,
        )
    };
    if code >= 0 {
        return Ok(answer.bytes().to_vec());
    }
    let said = String::from_utf8_lossy(said.bytes()).into_owned();
    Err(if said.is_empty() { io::Error::from_raw_os_error(-code).to_string() } else { said })
}
