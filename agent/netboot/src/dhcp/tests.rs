use super::*;

const CLIENT: Client = Client { mac: [0x52, 0x54, 0, 0, 1, 0], number: 0x1234 };

/// An answer of dnsmasq 2.90, as far as it is read: the header, the cookie, these options.
fn answer(address: [u8; 4], file: &[u8], options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[2, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&0x1234_u32.to_be_bytes());
    bytes[16..20].copy_from_slice(&address);
    bytes[28..34].copy_from_slice(&CLIENT.mac);
    bytes[108..108 + file.len()].copy_from_slice(file);
    bytes.extend_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    bytes.extend(options.concat());
    bytes.push(255);
    bytes
}

const OFFER: &[u8] = &[53, 1, 2];
const ACK: &[u8] = &[53, 1, 5];
const SERVER: &[u8] = &[54, 4, 10, 9, 0, 1];
const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
const URL: &[u8] = b"\x43\x11http://10.9.0.1/\0";

#[test]
fn what_is_asked_says_who_asks_and_what_for() {
    let bytes = CLIENT.discover().unwrap();
    let packet = DhcpPacket::new_checked(bytes.as_slice()).unwrap();
    let option = |kind| packet.options().find(|it| it.kind == kind).unwrap().data.to_vec();
    assert_eq!(option(53), [1]);
    assert_eq!(option(60), b"trilith");
    assert_eq!(option(93), [0, 16]);
    assert!(option(55).contains(&67));
    assert_eq!(&bytes[10..12], [0x80, 0], "by broadcast");
    let bytes = CLIENT.request([10, 9, 0, 7].into(), [10, 9, 0, 1].into()).unwrap();
    let packet = DhcpPacket::new_checked(bytes.as_slice()).unwrap();
    let option = |kind| packet.options().find(|it| it.kind == kind).unwrap().data.to_vec();
    assert_eq!((option(50), option(54)), (vec![10, 9, 0, 7], vec![10, 9, 0, 1]));
}

#[test]
fn a_server_gives_address_and_url() {
    let bytes = answer([10, 9, 0, 7], b"", &[ACK, SERVER, MASK, &[3, 4, 10, 9, 0, 254], URL]);
    let read = CLIENT.read(&bytes).unwrap();
    let expected = Answer {
        final_word: true,
        address: Some(([10, 9, 0, 7].into(), 24)),
        router: Some([10, 9, 0, 254].into()),
        server: Some([10, 9, 0, 1].into()),
        url: Some("http://10.9.0.1/".into()),
    };
    assert_eq!(read, expected);
}

#[test]
fn a_proxy_gives_the_url_alone_and_in_the_header() {
    let read = CLIENT.read(&answer([0; 4], b"http://10.9.0.1/", &[OFFER, SERVER])).unwrap();
    assert_eq!((read.final_word, read.address), (false, None));
    assert_eq!(read.url.as_deref(), Some("http://10.9.0.1/"));
}

#[test]
fn files_of_others_and_answers_to_others_are_nothing() {
    let read = CLIENT.read(&answer([10, 9, 0, 7], b"pxelinux.0", &[OFFER, SERVER, MASK])).unwrap();
    assert_eq!(read.url, None);
    let good = answer([10, 9, 0, 7], b"", &[OFFER, SERVER, MASK, URL]);
    assert!(CLIENT.read(&good).is_some());
    assert!(Client { number: 1, ..CLIENT }.read(&good).is_none());
    assert!(Client { mac: [0; 6], ..CLIENT }.read(&good).is_none());
    let no = answer([0; 4], b"", &[&[53, 1, 6], SERVER]);
    assert!(CLIENT.read(&no).is_none());
    for length in 0..good.len() {
        // Whatever is cut off: no panic.
        let _ = CLIENT.read(&good[..length]);
    }
}
