//! Requests to the kernel and its answers.

use std::io;

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    DefaultNla, ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload, Nla, NlaBuffer, NlasIterator, Parseable,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::AsyncSocket;
use tokio::task::JoinHandle;

use super::NetlinkError;

/// Dumps that may be overtaken by changes before it counts as an error.
const DUMP_TRIES: u32 = 8;

/// A netlink socket with the task that moves its messages.
#[derive(Debug)]
pub(super) struct Connection {
    handle: rtnetlink::Handle,
    task: JoinHandle<()>,
}

impl Connection {
    /// Opens a socket that filters dumps in the kernel and gives the kernel's own words with an error.
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true)?;
        // An error repeats only the header of what was asked, so that its words are found behind it.
        socket.set_cap_ack(true)?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// The socket was closed under us.
    pub(super) fn is_lost(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks for a change and waits until the kernel has made it. `flags` are added to the usual ones.
    pub(super) async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.request(message, NLM_F_ACK | flags).await.map(|_| ())
    }

    /// Asks for one thing.
    pub(super) async fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.request(message, NLM_F_ACK).await?.answers.pop())
    }

    /// Asks for all things of a kind, again if they changed meanwhile.
    pub(super) async fn dump(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let reply = self.request(message.clone(), NLM_F_DUMP).await?;
            if !reply.interrupted {
                return Ok(reply.answers);
            }
        }
        Err(NetlinkError::Interrupted(what))
    }

    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Reply, NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut stream = self.handle.clone().request(request).map_err(|_| NetlinkError::Lost)?;
        let mut reply = Reply::default();
        while let Some(message) = stream.next().await {
            reply.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => reply.answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(refused(&error));
                }
                // The answers of a dump were lost on the way: as good as overtaken.
                NetlinkPayload::Overrun(_) => reply.interrupted = true,
                _ => {}
            }
        }
        if self.is_lost() { Err(NetlinkError::Lost) } else { Ok(reply) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Reply {
    answers: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

fn refused(error: &ErrorMessage) -> NetlinkError {
    NetlinkError::Refused { detail: kernel_words(&error.header), source: error.to_io() }
}

/// The text of an extended acknowledgement (`NLMSGERR_ATTR_MSG` in `include/uapi/linux/netlink.h`): attributes
/// behind the 16 bytes of the request's header.
fn kernel_words(payload: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const MESSAGE: u16 = 1;
    let attributes = NlasIterator::new(payload.get(HEADER..)?);
    let words = attributes.filter_map(Result::ok).filter_map(|attribute: NlaBuffer<&[u8]>| {
        let attribute = DefaultNla::parse(&attribute).ok()?;
        let mut text = vec![0; attribute.value_len()];
        attribute.emit_value(&mut text);
        (attribute.kind() == MESSAGE).then(|| String::from_utf8_lossy(&text).into_owned())
    });
    let text = words.into_iter().next()?;
    Some(text.trim_end_matches(['\0', '.']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::kernel_words;

    #[test]
    fn kernel_words_stand_behind_the_header() {
        let mut payload = vec![0; 16];
        payload.extend([9, 0, 1, 0]);
        payload.extend(b"nope\0\0\0\0");
        assert_eq!(kernel_words(&payload).as_deref(), Some("nope"));
        assert_eq!(kernel_words(&payload[..16]), None);
        assert_eq!(kernel_words(&[]), None);
    }
}
