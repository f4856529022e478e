//! Intervals of keys, found by a key that lies in them: an AVL tree by first key, each node knowing the greatest end below it
//! (Cormen et al., "Interval trees"; etcd's `pkg/adt` does the same on a red-black tree).
//!
//! Equal intervals share a node. The tree stores numbers for them and knows nothing of watchers.

use std::cmp::Ordering;
use std::sync::Arc;

/// Where an interval ends: before a key, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Before this key.
    Before(Arc<[u8]>),
    /// All keys from the first on.
    Unbounded,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => **end > *key,
            End::Unbounded => true,
        }
    }
}

impl Ord for End {
    fn cmp(&self, other: &End) -> Ordering {
        match (self, other) {
            (End::Before(a), End::Before(b)) => a.cmp(b),
            (End::Before(_), End::Unbounded) => Ordering::Less,
            (End::Unbounded, End::Before(_)) => Ordering::Greater,
            (End::Unbounded, End::Unbounded) => Ordering::Equal,
        }
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &End) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Link = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    first: Arc<[u8]>,
    end: End,
    number: u32,
    /// Greatest end of this node and all below.
    end_max: End,
    height: u8,
    left: Link,
    right: Link,
}

/// The tree.
#[derive(Debug, Default)]
pub struct Intervals {
    root: Link,
}

impl Intervals {
    /// The number of an interval that is in the tree.
    pub fn find(&self, first: &[u8], end: &End) -> Option<u32> {
        let mut at = &self.root;
        while let Some(node) = at {
            at = match node.order(first, end) {
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
                Ordering::Equal => return Some(node.number),
            };
        }
        None
    }

    /// Adds an interval that is not in the tree.
    pub fn insert(&mut self, first: Arc<[u8]>, end: End, number: u32) {
        self.root = Some(insert(self.root.take(), first, end, number));
    }

    /// Removes an interval that is in the tree.
    pub fn remove(&mut self, first: &[u8], end: &End) {
        self.root = remove(self.root.take(), first, end);
    }

    /// Appends the numbers of all intervals that hold `key`.
    pub fn stab(&self, key: &[u8], found: &mut Vec<u32>) {
        stab(&self.root, key, found);
    }
}

impl Node {
    fn order(&self, first: &[u8], end: &End) -> Ordering {
        (*first).cmp(&*self.first).then_with(|| end.cmp(&self.end))
    }

    /// Recomputes what follows from the children.
    fn update(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.end_max);
        self.end_max = below.fold(&self.end, Ord::max).clone();
    }
}

fn height(link: &Link) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn insert(link: Link, first: Arc<[u8]>, end: End, number: u32) -> Box<Node> {
    let Some(mut node) = link else {
        let end_max = end.clone();
        return Box::new(Node { first, end, number, end_max, height: 1, left: None, right: None });
    };
    match node.order(&first, &end) {
        Ordering::Less => node.left = Some(insert(node.left.take(), first, end, number)),
        Ordering::Greater => node.right = Some(insert(node.right.take(), first, end, number)),
        Ordering::Equal => unreachable!("an interval was inserted twice"),
    }
    balance(node)
}

fn remove(link: Link, first: &[u8], end: &End) -> Link {
    let mut node = link.expect("an interval that is removed is in the tree");
    match node.order(first, end) {
        Ordering::Less => node.left = remove(node.left.take(), first, end),
        Ordering::Greater => node.right = remove(node.right.take(), first, end),
        Ordering::Equal => {
            return match (node.left.take(), node.right.take()) {
                (None, other) | (other, None) => other,
                (left, Some(right)) => {
                    let (mut least, rest) = take_least(right);
                    (least.left, least.right) = (left, rest);
                    Some(balance(least))
                }
            };
        }
    }
    Some(balance(node))
}

/// The node with the least first key, and what is left.
fn take_least(mut node: Box<Node>) -> (Box<Node>, Link) {
    match node.left.take() {
        None => {
            let rest = node.right.take();
            (node, rest)
        }
        Some(left) => {
            let (least, rest) = take_least(left);
            node.left = rest;
            (least, Some(balance(node)))
        }
    }
}

/// Restores the balance of a node whose children are balanced and differ by at most two levels.
fn balance(mut node: Box<Node>) -> Box<Node> {
    node.update();
    let (left, right) = (height(&node.left), height(&node.right));
    if left > right + 1 {
        let child = node.left.take().expect("the higher side is there");
        let leans_in = height(&child.right) > height(&child.left);
        node.left = Some(if leans_in { rotate_left(child) } else { child });
        return rotate_right(node);
    }
    if right > left + 1 {
        let child = node.right.take().expect("the higher side is there");
        let leans_in = height(&child.left) > height(&child.right);
        node.right = Some(if leans_in { rotate_right(child) } else { child });
        return rotate_left(node);
    }
    node
}

fn rotate_left(mut node: Box<Node>) -> Box<Node> {
    let mut up = node.right.take().expect("the side that rises is there");
    node.right = up.left.take();
    node.update();
    up.left = Some(node);
    up.update();
    up
}

fn rotate_right(mut node: Box<Node>) -> Box<Node> {
    let mut up = node.left.take().expect("the side that rises is there");
    node.left = up.right.take();
    node.update();
    up.right = Some(node);
    up.update();
    up
}

fn stab(link: &Link, key: &[u8], found: &mut Vec<u32>) {
    let Some(node) = link.as_ref().filter(|node| node.end_max.is_after(key)) else { return };
    stab(&node.left, key, found);
    if *node.first <= *key {
        if node.end.is_after(key) {
            found.push(node.number);
        }
        stab(&node.right, key, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(link: &Link) -> (u8, Option<End>) {
        let Some(node) = link else { return (0, None) };
        let ((left, left_end), (right, right_end)) = (check(&node.left), check(&node.right));
        assert!(left.abs_diff(right) <= 1, "unbalanced: {left} and {right}");
        assert_eq!(node.height, 1 + left.max(right));
        let end_max = [left_end, right_end].into_iter().flatten().fold(node.end.clone(), Ord::max);
        assert_eq!(node.end_max, end_max);
        (node.height, Some(end_max))
    }

    fn end(n: u8) -> End {
        if n == 0 { End::Unbounded } else { End::Before([n].into()) }
    }

    proptest! {
        #[test]
        fn finds_what_a_list_finds(steps in proptest::collection::vec((any::<bool>(), 0..20u8, 0..22u8), 1..200)) {
            let (mut tree, mut list) = (Intervals::default(), BTreeMap::new());
            for (number, (add, first, last)) in steps.into_iter().enumerate() {
                let known = list.contains_key(&(first, last));
                prop_assert_eq!(tree.find(&[first], &end(last)), list.get(&(first, last)).copied());
                if add && !known {
                    tree.insert([first].into(), end(last), number as u32);
                    list.insert((first, last), number as u32);
                } else if !add && known {
                    tree.remove(&[first], &end(last));
                    list.remove(&(first, last));
                }
                check(&tree.root);
                for key in 0..22u8 {
                    let mut found = Vec::new();
                    tree.stab(&[key], &mut found);
                    found.sort_unstable();
                    let holds = |&(first, last): &(u8, u8)| first <= key && (last == 0 || key < last);
                    let mut expected: Vec<u32> =
                        list.iter().filter(|(keys, _)| holds(keys)).map(|(_, number)| *number).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
