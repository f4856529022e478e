//! Rows in order into pages in order: a B+tree written from the bottom, each page as soon as it is full.
//!
//! What is kept is one unfinished page a level, and a row that is longer than a page as a whole. A branch follows its
//! children in the file; readers do not mind.

use super::layout::{self, ELEMENT, HEADER, Kind, PAGE};

/// Where pages go.
#[derive(Debug)]
pub struct Pages {
    /// Bytes of finished pages.
    pub out: Vec<u8>,
    /// The id of the next one.
    pub next: u64,
}

/// A bucket being written.
#[derive(Debug)]
pub struct Tree {
    leaf: Node,
    /// From the level above the leaves up.
    branches: Vec<Node>,
}

/// A page being filled.
#[derive(Debug)]
struct Node {
    kind: Kind,
    elements: Vec<Element>,
    /// Keys and values, one behind the other.
    data: Vec<u8>,
}

/// A row, or a child and its smallest key.
#[derive(Debug)]
struct Element {
    key: usize,
    value: usize,
    /// A leaf's: 1 for a bucket. A branch's: the child.
    extra: u64,
}

/// A page that was written, as its parent names it.
struct Child {
    first_key: Vec<u8>,
    id: u64,
}

impl Tree {
    /// No rows yet.
    pub fn new() -> Tree {
        Tree { leaf: Node::new(Kind::Leaf), branches: Vec::new() }
    }

    /// Adds a row; keys ascend.
    pub fn push(&mut self, pages: &mut Pages, key: &[u8], value: &[u8]) {
        self.add(pages, key, value, 0);
    }

    /// Adds a bucket whose tree begins at `root`, among the rows of the root bucket.
    pub fn push_bucket(&mut self, pages: &mut Pages, name: &str, root: u64) {
        self.add(pages, name.as_bytes(), &layout::bucket(root), 1);
    }

    fn add(&mut self, pages: &mut Pages, key: &[u8], value: &[u8], flags: u64) {
        if !self.leaf.fits(key.len() + value.len()) {
            let child = self.leaf.write(pages);
            self.add_child(pages, 0, child);
        }
        self.leaf.push(key, value, flags);
    }

    fn add_child(&mut self, pages: &mut Pages, level: usize, child: Child) {
        if level == self.branches.len() {
            self.branches.push(Node::new(Kind::Branch));
        }
        if !self.branches[level].fits(child.first_key.len()) {
            let full = self.branches[level].write(pages);
            self.add_child(pages, level + 1, full);
        }
        self.branches[level].push(&child.first_key, &[], child.id);
    }

    /// Writes what is unfinished. Returns the page the tree begins at.
    pub fn finish(mut self, pages: &mut Pages) -> u64 {
        let mut child = self.leaf.write(pages);
        let mut level = 0;
        while level < self.branches.len() {
            self.add_child(pages, level, child);
            // A level begins when a page below it is full, and the rest of that level follows: two at least.
            assert!(level + 1 < self.branches.len() || self.branches[level].elements.len() > 1);
            child = self.branches[level].write(pages);
            level += 1;
        }
        child.id
    }
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Node {
    fn new(kind: Kind) -> Node {
        Node { kind, elements: Vec::new(), data: Vec::new() }
    }

    fn size(&self) -> usize {
        HEADER + self.elements.len() * ELEMENT + self.data.len()
    }

    /// Whether an element with `len` bytes of data stays on the page; an empty page takes any.
    fn fits(&self, len: usize) -> bool {
        self.elements.is_empty() || self.size() + ELEMENT + len <= PAGE
    }

    fn push(&mut self, key: &[u8], value: &[u8], extra: u64) {
        self.elements.push(Element { key: key.len(), value: value.len(), extra });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    /// Writes the page out and begins the next one.
    fn write(&mut self, pages: &mut Pages) -> Child {
        let count = self.size().div_ceil(PAGE);
        let child = Child {
            first_key: self.elements.first().map_or_else(Vec::new, |first| self.data[..first.key].to_vec()),
            id: pages.next,
        };
        let out = &mut pages.out;
        let end = out.len() + count * PAGE;
        layout::put_header(out, child.id, self.kind, self.elements.len(), count - 1);
        let mut position = self.elements.len() * ELEMENT;
        for element in &self.elements {
            let word = |len: usize| u32::try_from(len).expect("a row is smaller than 4 GiB");
            let (at, key, value) = (word(position), word(element.key), word(element.value));
            layout::put_words(
                out,
                match self.kind {
                    Kind::Leaf => [element.extra as u32, at, key, value],
                    _ => [at, key, element.extra as u32, (element.extra >> 32) as u32],
                },
            );
            position = position + element.key + element.value - ELEMENT;
        }
        out.extend_from_slice(&self.data);
        out.resize(end, 0);
        pages.next += count as u64;
        self.elements.clear();
        self.data.clear();
        self.data.shrink_to(PAGE);
        child
    }
}
