use super::*;

/// As `veritysetup format --salt=0102030405060708` writes it (cryptsetup 2.7).
fn superblock(blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; Superblock::SIZE];
    bytes[..8].copy_from_slice(b"verity\0\0");
    (bytes[8], bytes[12], bytes[31]) = (1, 1, 1);
    bytes[32..38].copy_from_slice(b"sha256");
    (bytes[65], bytes[69]) = (16, 16);
    bytes[72..80].copy_from_slice(&blocks.to_le_bytes());
    bytes[80] = 8;
    bytes[88..96].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    bytes
}

/// Blocks that are each full of one byte.
fn data(blocks: u64) -> Vec<u8> {
    (0..blocks).flat_map(|n| vec![u8::try_from(n % 251).unwrap(); 4096]).collect()
}

/// One block, one full and one more than full leaf, several leaves, one full and one more than full second level: what
/// veritysetup says of them.
const ROOTS: [(u64, &str); 6] = [
    (1, "d2114511f0072dc4fcc83939f5676dbc02664cd8c7b15936f64d7aa31b0319c9"),
    (128, "cc908bc130d3eb394b9bd22674c611ef8514572227a1d2f280edde95126aeebc"),
    (129, "e6c4d622fecbc54788b3cde3ccf455d37e4f4e48caa57e2aba24c080275cbb3b"),
    (300, "151bd5cdee65c091ae84009f71f0c6c64f71c12b967859af8700af5722714220"),
    (16_384, "124ea98de02b578181e59ea0368c3ea845d7e332ebd8c5e2cd892dd23aeb9218"),
    (16_385, "18bb5f06da449d996de82a1c8afa8489216368215dfe44b2dc49cf0dcf68c1cb"),
];

#[test]
fn the_root_hash_is_veritysetups() {
    for (blocks, root) in ROOTS {
        let superblock = Superblock::parse(&superblock(blocks)).unwrap();
        superblock.check(&mut data(blocks).as_slice(), root).unwrap();
    }
}

#[test]
fn a_changed_byte_is_seen_wherever_it_is() {
    let (blocks, root) = ROOTS[3];
    let superblock = Superblock::parse(&superblock(blocks)).unwrap();
    let good = data(blocks);
    for at in [0, 4095, 4096, 128 * 4096, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let error = superblock.check(&mut bad.as_slice(), root).unwrap_err();
        assert!(matches!(error, VerityError::Changed { .. }), "{at}: {error}");
    }
    let short = superblock.check(&mut &good[1..], root).unwrap_err();
    assert!(matches!(short, VerityError::Read(_)), "{short}");
    let other = superblock.check(&mut good.as_slice(), "12").unwrap_err();
    assert!(matches!(other, VerityError::RootHash(_)), "{other}");
}

#[test]
fn what_is_no_superblock_is_refused() {
    let good = superblock(1);
    assert!(Superblock::parse(&good[1..]).is_err());
    for (at, byte) in [(0, b'w'), (8, 2), (12, 0), (34, b'b'), (65, 3), (64, 1), (81, 255)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert!(Superblock::parse(&bad).is_err(), "{at}");
    }
}
