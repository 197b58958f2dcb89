//! A file with holes where there are only zeroes: they take no memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// A page: the least that memory is given in.
const PAGE: usize = 4096;

/// A new file that is written from its beginning.
#[derive(Debug)]
pub(crate) struct Sparse<'a> {
    file: &'a File,
    written: u64,
}

impl<'a> Sparse<'a> {
    /// Empties the file.
    pub(crate) fn new(file: &'a File) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self { file, written: 0 })
    }

    /// How much was written, holes included, in bytes.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes more.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // Up to the end of the page.
            let within = usize::try_from(self.written % PAGE as u64).unwrap_or(0);
            let (page, rest) = bytes.split_at(bytes.len().min(PAGE - within));
            if page.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(page, self.written)?;
            }
            self.written += page.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Ends it: a hole at the end counts as well.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.written)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn zeroes_take_no_room_and_the_bytes_are_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut content = vec![0; 1 << 20];
        content[5000] = 1;
        content[700_001] = 2;
        let mut sparse = Sparse::new(file.as_file()).unwrap();
        for part in content.chunks(3000) {
            sparse.write(part).unwrap();
        }
        assert_eq!(sparse.written(), 1 << 20);
        sparse.finish().unwrap();
        assert!(std::fs::read(file.path()).unwrap() == content);
        assert!(file.as_file().metadata().unwrap().blocks() * 512 <= 16 << 10);
    }
}
