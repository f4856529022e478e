//! Numbers and edits out of an input, front to back. An input that has ended gives zeroes.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes to be written over others.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Which of several files or pages.
    pub part: u8,
    /// Where in it.
    pub at: u16,
    /// What.
    pub bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// The next edit: part, place, a length of at most 15, and the bytes.
    pub fn edit(&mut self) -> Option<Edit<'a>> {
        if self.is_empty() {
            return None;
        }
        let (part, at, len) = (self.byte(), self.u16(), self.byte() % 16);
        Some(Edit { part, at, bytes: self.bytes(len.into()) })
    }
}

impl Edit<'_> {
    /// The edit as [`Input::edit`] reads it.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.bytes.len() < 16, "{} bytes in an edit", self.bytes.len());
        let [low, high] = self.at.to_le_bytes();
        [&[self.part, low, high, self.bytes.len() as u8][..], self.bytes].concat()
    }

    /// Writes it as far as it fits.
    pub fn apply(&self, target: &mut [u8]) {
        let at = usize::from(self.at).min(target.len());
        let len = self.bytes.len().min(target.len() - at);
        target[at..at + len].copy_from_slice(&self.bytes[..len]);
    }
}
