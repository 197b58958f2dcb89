//! What a server answers to the four letters `srvr` (ZooKeeper Administrator's Guide, "The Four Letter Words").

use super::Server;

/// Reads the answer to `srvr`.
///
/// A server without quorum answers in words over plain text; over TLS it closes the connection before the
/// handshake ends, which is the caller's to see.
pub fn parse(text: &str) -> Server {
    if text.contains("is not currently serving requests") {
        return Server::Alone;
    }
    let field = |name: &str| {
        let lines = text.lines();
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    };
    let zxid =
        field("Zxid").and_then(|zxid| u64::from_str_radix(zxid.strip_prefix("0x")?, 16).ok());
    match (field("Mode"), zxid) {
        (Some(mode), Some(zxid)) => Server::Serving { role: mode.into(), zxid, leader: None },
        _ => Server::Away("its answer to `srvr` is not understood".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 3.9.3 answers.
    const FOLLOWER: &str =
        "Zookeeper version: 3.9.3-${mvngit.commit.id}, built on 2024-12-05 12:00 UTC
Latency min/avg/max: 0/0.0/0
Received: 1
Sent: 0
Connections: 1
Outstanding: 0
Zxid: 0x100000002
Mode: follower
Node count: 5
";

    #[test]
    fn answers_of_a_server() {
        let zxid = 0x1_0000_0002;
        assert_eq!(
            parse(FOLLOWER),
            Server::Serving { role: "follower".into(), zxid, leader: None }
        );
        let alone = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(parse(alone), Server::Alone);
        for odd in
            ["", "srvr is not executed because it is not in the whitelist.\n", "Zxid: 7\nMode: x\n"]
        {
            assert!(matches!(parse(odd), Server::Away(_)), "{odd:?}");
        }
    }
}
