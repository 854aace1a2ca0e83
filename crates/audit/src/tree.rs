//! The append-only side of an RFC 6962 Merkle tree: a [`Frontier`] that grows
//! one leaf at a time and always knows its root, in `O(log n)` memory.
//!
//! It cannot prove anything about the past; that needs stored hashes and is
//! done in [`crate::proof`].

use alloc::vec::Vec;

use crate::{
    hash::{Hash, node_hash},
    proof::NodeId,
};

/// The right edge of a tree: the roots of its complete subtrees, largest first.
///
/// Two frontiers are equal exactly when they stand for the same list of leaves
/// (up to a collision of SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    // INVARIANT: one root per set bit of `size`, from the highest bit down.
    roots: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, roots: Vec::new() }
    }

    /// Grows a tree from all its leaf hashes.
    ///
    /// # Errors
    /// Only when there are 2^64 of them.
    pub fn from_leaves(leaves: impl IntoIterator<Item = Hash>) -> Result<Self, TreeFull> {
        let mut tree = Self::new();
        for leaf in leaves {
            tree.append(leaf)?;
        }
        Ok(tree)
    }

    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash of all leaves (RFC 6962, section 2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut from_right = self.roots.iter().rev();
        from_right
            .next()
            .map_or(Hash::EMPTY_ROOT, |last| from_right.fold(*last, |right, left| node_hash(left, &right)))
    }

    /// Appends a leaf hash and answers the index the leaf got.
    ///
    /// # Errors
    /// When the tree has `u64::MAX` leaves.
    pub fn append(&mut self, leaf: Hash) -> Result<u64, TreeFull> {
        self.append_with(leaf, |_id, _hash| {})
    }

    /// Like [`Frontier::append`], and reports every subtree that this leaf completes, the
    /// leaf itself (level 0) first.
    ///
    /// A store that keeps those whose level is a multiple of 8 has every hash of every
    /// complete tile, and proofs need no other.
    ///
    /// # Errors
    /// When the tree has `u64::MAX` leaves; nothing was appended or reported then.
    pub fn append_with(
        &mut self,
        leaf: Hash,
        mut completed: impl FnMut(NodeId, &Hash),
    ) -> Result<u64, TreeFull> {
        let index = self.size;
        let size = index.checked_add(1).ok_or(TreeFull)?;
        let mut node = leaf;
        let mut id = NodeId { level: 0, index };
        completed(id, &node);
        // Each trailing one of the old size is a complete left neighbour of the same height.
        for _height in 0..index.trailing_ones() {
            let Some(left) = self.roots.pop() else { break };
            node = node_hash(&left, &node);
            id = id.parent();
            completed(id, &node);
        }
        self.roots.push(node);
        self.size = size;
        Ok(index)
    }

    /// A form to store: a version byte, the size (big-endian), then the subtree roots.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9_usize.saturating_add(self.roots.len().saturating_mul(32)));
        bytes.push(FRONTIER_VERSION);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for root in &self.roots {
            bytes.extend_from_slice(root.as_bytes());
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the version is another, or the number of roots does not fit the size.
    /// That the roots are the right ones only a signed checkpoint can tell.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (version, rest) = bytes.split_first().ok_or(FrontierError::Length)?;
        if *version != FRONTIER_VERSION {
            return Err(FrontierError::Version(*version));
        }
        let (size, rest) = rest.split_first_chunk::<8>().ok_or(FrontierError::Length)?;
        let size = u64::from_be_bytes(*size);
        let (chunks, tail) = rest.as_chunks::<32>();
        let expected = usize::try_from(size.count_ones()).unwrap_or(usize::MAX);
        if !tail.is_empty() || chunks.len() != expected {
            return Err(FrontierError::Length);
        }
        Ok(Self { size, roots: chunks.iter().copied().map(Hash::from_bytes).collect() })
    }
}

const FRONTIER_VERSION: u8 = 1;

/// The tree cannot hold another leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is full: it has 2^64 - 1 entries")]
pub struct TreeFull;

/// Stored bytes are not a [`Frontier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Written by a version this code does not know.
    #[error("the stored tree state has version {0}, and only version 1 is known")]
    Version(u8),
    /// Cut off, padded, or with a size that does not fit its roots.
    #[error("the stored tree state has a length that does not fit its size")]
    Length,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::leaf_hash,
        proof::tests::{naive_root, reference_leaves, test_leaves},
    };
    use alloc::string::ToString as _;

    #[test]
    fn certificate_transparency_reference_roots() {
        let expected = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Frontier::new();
        assert_eq!(tree.root(), Hash::EMPTY_ROOT);
        for (entry, root) in reference_leaves().iter().zip(expected) {
            tree.append(leaf_hash(entry)).unwrap();
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn every_size_agrees_with_the_definition_and_survives_storage() {
        let leaves = test_leaves(600);
        let mut tree = Frontier::new();
        for size in 0..=leaves.len() {
            assert_eq!(tree.root(), naive_root(&leaves[..size]), "size {size}");
            assert_eq!(Frontier::from_bytes(&tree.to_bytes()).as_ref(), Ok(&tree));
            if let Some(leaf) = leaves.get(size) {
                assert_eq!(tree.append(*leaf), Ok(size as u64));
            }
        }
        assert_eq!(Frontier::from_leaves(leaves), Ok(tree));
    }

    #[test]
    fn completed_subtrees_are_reported_once_each() {
        let leaves = test_leaves(64);
        let mut seen = alloc::collections::BTreeMap::new();
        let mut tree = Frontier::new();
        for leaf in &leaves {
            tree.append_with(*leaf, |id, hash| assert_eq!(seen.insert(id, *hash), None)).unwrap();
        }
        assert_eq!(seen.len(), 64 + 32 + 16 + 8 + 4 + 2 + 1);
        for (id, hash) in seen {
            let width = 1 << id.level;
            let begin = usize::try_from(id.index).unwrap() * width;
            assert_eq!(hash, naive_root(&leaves[begin..begin + width]));
        }
    }

    #[test]
    fn damaged_state_is_refused() {
        let tree = Frontier::from_leaves(test_leaves(5)).unwrap();
        let bytes = tree.to_bytes();
        assert_eq!(Frontier::from_bytes(&[]), Err(FrontierError::Length));
        assert_eq!(Frontier::from_bytes(&bytes[..bytes.len() - 1]), Err(FrontierError::Length));
        assert_eq!(Frontier::from_bytes(&bytes[..bytes.len() - 32]), Err(FrontierError::Length));
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Frontier::from_bytes(&other), Err(FrontierError::Version(2)));
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Frontier::from_bytes(&longer), Err(FrontierError::Length));
    }

    #[test]
    fn the_last_leaf_index_does_not_overflow() {
        let roots = alloc::vec![Hash::EMPTY_ROOT; 64];
        let mut full = Frontier { size: u64::MAX, roots };
        assert_eq!(full.append(Hash::EMPTY_ROOT), Err(TreeFull));
        assert_eq!(full.size(), u64::MAX);
    }
}
