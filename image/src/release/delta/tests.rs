use super::*;

/// Bytes that do not repeat, other ones for each number.
fn noise(number: u64, size: usize) -> Vec<u8> {
    let words = (0..size.div_ceil(32) as u64)
        .map(|at| Sha256::digest([number, at].map(u64::to_le_bytes).concat()));
    let mut bytes: Vec<u8> = words.flatten().collect();
    bytes.truncate(size);
    bytes
}

/// What a node does with it: piece by piece, each checked before it is used.
fn apply(old: &[u8], pieces: &[Piece], delta: &[u8]) -> Vec<u8> {
    let (mut new, mut rest) = (Vec::new(), delta);
    for piece in pieces {
        let (frame, behind) = rest.split_at(usize::try_from(piece.size).unwrap());
        rest = behind;
        assert_eq!(hex(&Sha256::digest(frame)), piece.sha256.as_str());
        assert!(piece.makes <= PIECE && piece.reads <= REFERENCE);
        let prefix =
            &old[usize::try_from(piece.from).unwrap()..][..usize::try_from(piece.reads).unwrap()];
        let before = new.len();
        new.extend(made(piece, frame, prefix));
        assert_eq!(new.len() - before, usize::try_from(piece.makes).unwrap());
    }
    assert!(rest.is_empty());
    new
}

fn made(piece: &Piece, frame: &[u8], prefix: &[u8]) -> Vec<u8> {
    let unpack = |prefix: &[u8]| {
        let mut decoder = Decoder::with_ref_prefix(frame, prefix).unwrap();
        decoder.window_log_max(WINDOW).unwrap();
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let Some(inside) = &piece.inside else { return unpack(prefix) };
    let prefix = zstd::decode_all(prefix).unwrap();
    let content = unpack(&prefix);
    assert_eq!((prefix.len() as u64, content.len() as u64), (inside.reads, inside.makes));
    packed(&content)
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut encoder = trilith_frame::encoder(Vec::new()).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn delta_of(old: &[u8], new: &[u8]) -> (Vec<Piece>, Vec<u8>) {
    delta(Kind::Other, old, new)
}

fn delta(kind: Kind, old: &[u8], new: &[u8]) -> (Vec<Piece>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("old"), old).unwrap();
    std::fs::write(at("new"), new).unwrap();
    let pieces = make(kind, (&at("old"), &at("new")), &at("delta"), 3).unwrap();
    (pieces, std::fs::read(at("delta")).unwrap())
}

#[test]
fn a_delta_makes_the_new_part_of_the_old_one() {
    let old = noise(1, 500_000);
    let new = [&old[..200_000], &noise(2, 3000), &old[200_100..]].concat();
    let (pieces, delta) = delta_of(&old, &new);
    assert_eq!(apply(&old, &pieces, &delta), new);
    assert!((3000..3500).contains(&delta.len()), "{}", delta.len());
}

#[test]
fn what_is_the_same_or_empty_costs_nearly_nothing() {
    let old = noise(1, 100_000);
    let (pieces, delta) = delta_of(&old, &old);
    assert_eq!(apply(&old, &pieces, &delta), old);
    assert!(delta.len() < 100, "{}", delta.len());
    let (pieces, delta) = delta_of(&old, b"");
    assert_eq!((apply(&old, &pieces, &delta).len(), pieces.len()), (0, 0));
    let (pieces, delta) = delta_of(b"", &old);
    assert_eq!(apply(b"", &pieces, &delta), old);
}

/// A part that is larger than what a piece may refer to, with what lies far behind now in front.
#[test]
fn a_piece_refers_to_where_its_blocks_are() {
    const MIB: usize = 1 << 20;
    let mut old = vec![0; 170 * MIB];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut old).unwrap();
    let new = [&old[140 * MIB..], &old[..20 * MIB + 77]].concat();
    let (pieces, delta) = delta_of(&old, &new);
    assert_eq!(pieces.len(), 2);
    assert!(pieces[0].from > 40 * MIB as u64, "{pieces:?}");
    assert_eq!(apply(&old, &pieces, &delta), new);
    // The first two MiB of the second piece come from behind, and its reference is in front.
    assert!(delta.len() < 3 * MIB, "{}", delta.len());
}

/// A system with a kernel, and two frames in its initrd.
fn system(kernel: u64, programs: &[u8], between: &[u8], modules: &[u8]) -> Vec<u8> {
    [&noise(kernel, 300_000), &packed(programs), between, &packed(modules), b"signature"].concat()
}

#[test]
fn frames_are_compared_by_what_is_in_them() {
    let (programs, modules) = (noise(1, 3_000_000), noise(2, 5_000_000));
    let old = system(3, &programs, b"", &modules);
    let newer = [&programs[..9000], b"news", &programs[9000..]].concat();
    let changed = [b"changed", &modules[..4_000_000], &noise(4, 2000)].concat();
    let new = system(5, &newer, b"microcode", &changed);
    let (pieces, made_of) = delta(Kind::System, &old, &new);
    assert_eq!(apply(&old, &pieces, &made_of), new);
    let inside: Vec<bool> = pieces.iter().map(|it| it.inside.is_some()).collect();
    assert_eq!(inside, [false, true, false, true, false]);
    assert!((302_000..304_000).contains(&made_of.len()), "{}", made_of.len());
}

/// What a node could not make again stays as it is.
#[test]
fn a_frame_of_another_compressor_is_taken_as_it_is() {
    let (old, new) = (noise(1, 2_000_000), noise(2, 2_000_000));
    let [old, new] = [old, new]
        .map(|it| zstd::encode_all([it.as_slice(), &it].concat().as_slice(), 19).unwrap());
    let (pieces, made_of) = delta(Kind::System, &old, &new);
    assert_eq!(apply(&old, &pieces, &made_of), new);
    assert!(pieces.iter().all(|it| it.inside.is_none()));
}
