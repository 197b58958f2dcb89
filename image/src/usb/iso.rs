//! The first sectors of an ISO 9660 file system (ECMA-119) with an El Torito boot catalog, written into the gap before the
//! first partition of a disk image. A firmware that is given the image as a disc finds the EFI system partition by them,
//! and needs no other copy of it; one that is given the image as a disk finds the partition table, and never looks here.

/// The size of a disc's sector.
pub(crate) const SECTOR: u64 = 2048;

/// Where the first of the sectors lies, in bytes; before it is the system area, with the partition table.
pub(crate) const OFFSET: u64 = 16 * SECTOR;

/// The name of the disc: the initrd knows it by that.
const NAME: &[u8] = b"TRILITH";

// Sectors, counted from the start of the disc.
const CATALOG: u32 = 19;
const PATHS_LITTLE: u32 = 20;
const PATHS_BIG: u32 = 21;
const ROOT: u32 = 22;
const END: u32 = 23;

/// The length of the root's entry in a directory, and of its entry in the path tables.
const ROOT_ENTRY: usize = 34;
const PATH_ENTRY: u32 = 10;

/// The sectors from [`OFFSET`] on, of a disc with `sectors` sectors whose boot image begins at the sector `boot`.
pub(crate) fn sectors(sectors: u32, boot: u32) -> Vec<u8> {
    let mut all = vec![primary(sectors), boot_record(), terminator(), catalog(boot)];
    all.push(padded(&[&[1, 0], &ROOT.to_le_bytes()[..], &1_u16.to_le_bytes(), &[0, 0]].concat()));
    all.push(padded(&[&[1, 0], &ROOT.to_be_bytes()[..], &1_u16.to_be_bytes(), &[0, 0]].concat()));
    all.push(padded(&[directory(0), directory(1)].concat()));
    debug_assert_eq!(all.len(), (END - 16) as usize);
    all.concat()
}

/// 8.4: what the file system is. Files it has none.
fn primary(sectors: u32) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes[..7].copy_from_slice(b"\x01CD001\x01");
    bytes.extend([b' '; 32]);
    bytes.extend(filled(NAME, 32));
    bytes.extend([0; 8]);
    bytes.extend(both32(sectors));
    bytes.extend([0; 32]);
    bytes.extend([both16(1), both16(1), both16(2048)].concat());
    bytes.extend(both32(PATH_ENTRY));
    bytes.extend([PATHS_LITTLE.to_le_bytes(), [0; 4], PATHS_BIG.to_be_bytes(), [0; 4]].concat());
    bytes.extend(directory(0));
    // Set, publisher, preparer, application and three names of files: none.
    bytes.extend([b' '; 4 * 128 + 3 * 37]);
    // Four times: no date, so that the same image is the same bytes.
    for _ in 0..4 {
        bytes.extend([b'0'; 16]);
        bytes.push(0);
    }
    bytes.push(1);
    padded(&bytes)
}

/// El Torito 2.0: where the boot catalog is.
fn boot_record() -> Vec<u8> {
    let mut bytes = b"\x00CD001\x01".to_vec();
    let mut name = b"EL TORITO SPECIFICATION".to_vec();
    name.resize(64, 0);
    bytes.extend(name);
    bytes.extend(CATALOG.to_le_bytes());
    padded(&bytes)
}

/// 8.3: there are no further descriptors.
fn terminator() -> Vec<u8> {
    padded(b"\xffCD001\x01")
}

/// One boot image, for EFI, taken as it is. Its size does not go into 16 bits: 0 stands for all up to the disc's end (UEFI
/// 2.10, 13.3.2.1).
fn catalog(boot: u32) -> Vec<u8> {
    let mut check = vec![1, 0xef, 0, 0];
    check.extend([0; 24]);
    check.extend([0, 0, 0x55, 0xaa]);
    let words = check.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let sum = words.fold(0_u16, u16::wrapping_add).wrapping_neg();
    check[28..30].copy_from_slice(&sum.to_le_bytes());
    let mut entry = vec![0x88, 0, 0, 0, 0, 0, 0, 0];
    entry.extend(boot.to_le_bytes());
    padded(&[check, entry].concat())
}

/// 9.1: a directory's entry for itself (0) or the one above (1).
fn directory(which: u8) -> Vec<u8> {
    let mut bytes = vec![34, 0];
    bytes.extend([both32(ROOT), both32(2048)].concat());
    bytes.extend([0; 7]);
    bytes.extend([2, 0, 0]);
    bytes.extend(both16(1));
    bytes.extend([1, which]);
    debug_assert_eq!(bytes.len(), ROOT_ENTRY);
    bytes
}

/// 7.3.3 and 7.2.3: a number in both byte orders.
fn both32(number: u32) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both16(number: u16) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn filled(text: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.resize(length, b' ');
    bytes
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(2048, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_where_the_standards_have_it() {
        let bytes = sectors(900, 512);
        assert_eq!(bytes.len(), 7 * 2048);
        let at = |sector: usize, offset: usize, length: usize| {
            &bytes[sector * 2048 + offset..sector * 2048 + offset + length]
        };
        assert_eq!(at(0, 0, 7), b"\x01CD001\x01");
        assert_eq!(at(0, 40, 8), b"TRILITH ");
        assert_eq!(at(0, 80, 8), [132, 3, 0, 0, 0, 0, 3, 132], "size of the volume");
        assert_eq!(at(0, 128, 4), [0, 8, 8, 0], "size of a block");
        assert_eq!(at(0, 132, 4), [10, 0, 0, 0], "size of the path table");
        assert_eq!(at(0, 140, 4), [20, 0, 0, 0]);
        assert_eq!(at(0, 148, 4), [0, 0, 0, 21]);
        assert_eq!(at(0, 156, 6), [34, 0, 22, 0, 0, 0], "the root");
        assert_eq!(at(0, 813, 16), [b'0'; 16], "made");
        assert_eq!(at(0, 881, 1), [1]);
        assert_eq!(at(1, 0, 30), b"\x00CD001\x01EL TORITO SPECIFICATION");
        assert_eq!(at(1, 71, 4), [19, 0, 0, 0]);
        assert_eq!(at(2, 0, 7), b"\xffCD001\x01");
        assert_eq!(at(3, 32, 12), [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
        let sum = at(3, 0, 32)
            .chunks(2)
            .fold(0_u16, |sum, pair| sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]])));
        assert_eq!(sum, 0);
        assert_eq!(at(4, 0, 10), [1, 0, 22, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(at(5, 0, 10), [1, 0, 0, 0, 0, 22, 0, 1, 0, 0]);
        assert_eq!((at(6, 33, 1), at(6, 34 + 33, 1)), (&[0][..], &[1][..]));
    }
}
