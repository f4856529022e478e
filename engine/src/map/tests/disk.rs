//! A disk of one file whose power can fail: what was not synced is lost, kept or torn by 512-byte sectors.

use bytes::Bytes;

use crate::disk::{Disk, DiskError, FileName, Op, Outcome, Output};

const SECTOR: usize = 512;

/// The index file in memory.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    /// What reads see; none before the file is created.
    pub file: Option<Vec<u8>>,
    /// What is stable.
    stable: Vec<u8>,
    /// Writes since the last sync.
    pending: Vec<(usize, Bytes)>,
}

impl MemDisk {
    /// A disk with a file on it.
    pub fn with_file(bytes: Vec<u8>) -> MemDisk {
        MemDisk { file: Some(bytes.clone()), stable: bytes, pending: Vec::new() }
    }

    /// The disk after a power cut: of each sector written since the last sync, `keep` says whether it arrived.
    pub fn power_cut(&self, mut keep: impl FnMut() -> bool) -> MemDisk {
        let mut image = self.stable.clone();
        for (offset, data) in &self.pending {
            for (i, sector) in data.chunks(SECTOR).enumerate() {
                if keep() {
                    put(&mut image, offset + i * SECTOR, sector);
                }
            }
        }
        match self.file {
            Some(_) => MemDisk::with_file(image),
            None => MemDisk::default(),
        }
    }
}

impl Disk for MemDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.file.iter().map(|file| (FileName::Index, file.len() as u64)).collect())
    }

    fn run(&mut self, op: Op) -> Outcome {
        assert_eq!(op.file(), FileName::Index);
        match op {
            Op::Create { len, .. } => {
                assert!(self.file.is_none(), "the file exists");
                *self = MemDisk::with_file(vec![0; len as usize]);
            }
            Op::Write { offset, data, .. } => {
                put(self.file.as_mut().expect("the file exists"), offset as usize, &data);
                self.pending.push((offset as usize, data));
            }
            Op::Sync { .. } => {
                self.stable = self.file.clone().expect("the file exists");
                self.pending.clear();
            }
            Op::Read { offset, len, .. } => {
                let file = self.file.as_ref().expect("the file exists");
                let bytes = file.get(offset as usize..offset as usize + len);
                return match bytes {
                    Some(bytes) => Ok(Output::Data(Bytes::copy_from_slice(bytes))),
                    None => {
                        let end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                        Err(DiskError::new(format!("reading {len} bytes of index.db at {offset}"), &end))
                    }
                };
            }
            Op::Rename { .. } | Op::Remove { .. } => unreachable!("the index is never renamed or removed"),
        }
        Ok(Output::Done)
    }
}

fn put(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}
