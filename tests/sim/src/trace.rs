//! What happened in a run, as one number: two runs of a seed must agree on it.

/// FNV-1a, 64 bits.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    /// Lines of the run, if somebody reads them.
    pub lines: Option<Vec<String>>,
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Default for Trace {
    fn default() -> Trace {
        Trace { hash: OFFSET, lines: None }
    }
}

impl Trace {
    /// Adds what happened.
    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = std::fmt::write(self, what);
        if let Some(lines) = &mut self.lines {
            lines.push(what.to_string());
        }
    }

    /// Everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl std::fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Ok(())
    }
}

/// Shortens runs of one character, which is what long keys and values are made of.
pub fn brief(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut more = 0;
        while chars.next_if_eq(&c).is_some() {
            more += 1;
        }
        out.push(c);
        match more {
            0..=9 => out.extend(std::iter::repeat_n(c, more)),
            _ => out.push_str(&format!("*{}", more + 1)),
        }
    }
    out
}
