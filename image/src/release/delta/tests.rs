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
        let mut decoder = Decoder::with_ref_prefix(frame, prefix).unwrap();
        decoder.window_log_max(WINDOW).unwrap();
        let before = new.len();
        decoder.read_to_end(&mut new).unwrap();
        assert_eq!(new.len() - before, usize::try_from(piece.makes).unwrap());
    }
    assert!(rest.is_empty());
    new
}

fn delta_of(old: &[u8], new: &[u8]) -> (Vec<Piece>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("old"), old).unwrap();
    std::fs::write(at("new"), new).unwrap();
    let pieces = make(&at("old"), &at("new"), &at("delta"), 3).unwrap();
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
