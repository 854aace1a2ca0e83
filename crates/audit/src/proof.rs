//! Inclusion and consistency proofs (RFC 6962, section 2.1).
//!
//! *Making* a proof needs hashes of the past. It asks for them through [`Nodes`]
//! and only ever for roots of complete, aligned subtrees, `O(log n)` of them; a
//! store that keeps leaf hashes and the hashes of complete tiles answers each
//! from at most one tile ([`TileNodes`]). A store that cannot answer
//! synchronously asks [`inclusion_nodes`] or [`consistency_nodes`] what will be
//! needed, fetches it, and passes a `BTreeMap`.
//!
//! *Verifying* needs nothing but the proof and takes hostile input.

use alloc::{collections::BTreeMap, vec::Vec};
use core::convert::Infallible;

use crate::{
    hash::{Hash, node_hash},
    tile::TILE_WIDTH,
};

/// A complete subtree: leaves `index * 2^level` up to (not including) `(index + 1) * 2^level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Height above the leaves, 0 to 63.
    pub level: u8,
    /// Position among the nodes of this level, from 0.
    pub index: u64,
}

impl NodeId {
    pub(crate) const fn parent(self) -> Self {
        Self { level: self.level.saturating_add(1), index: self.index >> 1 }
    }

    /// The hashes of one tile from which this node is computed: tile level, index of the
    /// first hash within that level, and their number (a power of two up to 128).
    #[must_use]
    pub const fn tile_range(self) -> (u8, u64, u16) {
        let level = self.level >> 3;
        let within = self.level & 7;
        // A node whose start does not fit 64 bits does not exist; wrapping it names a hash
        // that no store has.
        (level, self.index.wrapping_shl(within as u32), 1_u16.wrapping_shl(within as u32))
    }
}

/// Hashes of complete subtrees come from such a source.
///
/// The answer is trusted: a wrong hash gives a proof that does not verify, never a
/// wrong proof that does.
pub trait Nodes {
    /// A hash could not be had for this reason.
    type Error;
    /// The Merkle tree hash of a complete subtree that lies within the tree.
    ///
    /// # Errors
    /// When the hash cannot be had.
    fn node(&mut self, id: NodeId) -> Result<Hash, Self::Error>;
}

/// Proof of inclusion of leaf `index` in the tree of `size` leaves, sibling of the leaf first.
///
/// # Errors
/// When `index` is not below `size`, or a node cannot be had.
pub fn inclusion<N: Nodes>(index: u64, size: u64, nodes: &mut N) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let mut path = Vec::new();
    // From the root down, so the path comes out top first.
    let (mut begin, mut end) = (0_u64, size);
    while let Some(middle) = split(begin, end) {
        if index < middle {
            path.push(range_hash(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range_hash(begin, middle, nodes)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves.
///
/// It is empty for `old == 0` and for `old == new`, as there is nothing to show.
///
/// # Errors
/// When `old` is above `new`, or a node cannot be had.
pub fn consistency<N: Nodes>(old: u64, new: u64, nodes: &mut N) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    // SUBPROOF(m, D[n], b) of RFC 6962, section 2.1.2, with D[begin..end] as the current subtree.
    let (mut begin, mut end) = (0_u64, new);
    while let Some(middle) = split(begin, end) {
        if end == old {
            break;
        }
        if old <= middle {
            path.push(range_hash(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range_hash(begin, middle, nodes)?);
            begin = middle;
        }
    }
    // The old root itself is known to the verifier (`b` in the RFC) exactly when it starts at 0.
    if begin != 0 {
        path.push(range_hash(begin, end, nodes)?);
    }
    path.reverse();
    Ok(path)
}

/// The root of the tree of `size` leaves.
///
/// # Errors
/// When a node cannot be had.
pub fn root<N: Nodes>(size: u64, nodes: &mut N) -> Result<Hash, N::Error> {
    if size == 0 { Ok(Hash::EMPTY_ROOT) } else { range_hash(0, size, nodes) }
}

/// The nodes that [`inclusion`] will ask for, in order.
///
/// # Errors
/// When `index` is not below `size`.
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<NodeId>, ProofError<Infallible>> {
    let mut asked = Recorder(Vec::new());
    inclusion(index, size, &mut asked)?;
    Ok(asked.0)
}

/// The nodes that [`consistency`] will ask for, in order.
///
/// # Errors
/// When `old` is above `new`.
pub fn consistency_nodes(old: u64, new: u64) -> Result<Vec<NodeId>, ProofError<Infallible>> {
    let mut asked = Recorder(Vec::new());
    consistency(old, new, &mut asked)?;
    Ok(asked.0)
}

/// Verifies that `leaf` is entry `index` of the tree with this size and root (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// When it is not shown, for whatever reason.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    root: &Hash,
    path: &[Hash],
) -> Result<(), VerifyError> {
    if index >= size {
        return Err(VerifyError::IndexOutOfRange);
    }
    let (mut node, mut last) = (index, size.wrapping_sub(1));
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if hash == *root { Ok(()) } else { Err(VerifyError::Root) }
}

/// Verifies that the tree `old` (size, root) is a prefix of the tree `new` (RFC 9162, section 2.1.4.2).
///
/// # Errors
/// When it is not shown, for whatever reason. Empty trees must have the empty root.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> Result<(), VerifyError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(VerifyError::SizesReversed);
    }
    for (size, root) in [old, new] {
        if size == 0 && *root != Hash::EMPTY_ROOT {
            return Err(VerifyError::Root);
        }
    }
    if old_size == 0 || old_size == new_size {
        return match (path.is_empty(), old_size == 0 || old_root == new_root) {
            (false, _) => Err(VerifyError::Length),
            (true, false) => Err(VerifyError::Root),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (old_size.wrapping_sub(1), new_size.wrapping_sub(1));
    let complete = node.trailing_ones();
    node = node.checked_shr(complete).unwrap_or(0);
    last = last.checked_shr(complete).unwrap_or(0);
    let mut steps = path.iter();
    // A complete old tree is a node of the new one; its root starts the path and is not sent.
    let start =
        if old_size.is_power_of_two() { old_root } else { steps.next().ok_or(VerifyError::Length)? };
    let (mut of_old, mut of_new) = (*start, *start);
    for sibling in steps {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if node & 1 == 1 || node == last {
            of_old = node_hash(sibling, &of_old);
            of_new = node_hash(sibling, &of_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            of_new = node_hash(&of_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if of_old == *old_root && of_new == *new_root { Ok(()) } else { Err(VerifyError::Root) }
}

/// All leaf hashes of a log in memory. Right for tests and small logs: a node costs all its leaves.
#[derive(Debug, Clone, Copy)]
pub struct Leaves<'a>(pub &'a [Hash]);

impl Nodes for Leaves<'_> {
    type Error = MissingNode;

    fn node(&mut self, id: NodeId) -> Result<Hash, MissingNode> {
        let missing = MissingNode(id);
        let width = 1_usize.checked_shl(u32::from(id.level)).ok_or(missing)?;
        let begin =
            usize::try_from(id.index).ok().and_then(|index| index.checked_mul(width)).ok_or(missing)?;
        let end = begin.checked_add(width).ok_or(missing)?;
        let leaves = self.0.get(begin..end).ok_or(missing)?;
        fold_complete(leaves.to_vec()).ok_or(missing)
    }
}

impl Nodes for BTreeMap<NodeId, Hash> {
    type Error = MissingNode;

    fn node(&mut self, id: NodeId) -> Result<Hash, MissingNode> {
        self.get(&id).copied().ok_or(MissingNode(id))
    }
}

/// Nodes computed from the hashes of tiles.
///
/// The function answers `count` consecutive hashes of one tile level, starting at `start`:
/// at level 0 the leaf hashes, at level `L` the roots of the complete tiles of level `L - 1`.
/// One question never crosses the border of a tile, and never asks for more than 128 hashes.
#[derive(Debug, Clone)]
pub struct TileNodes<F>(pub F);

impl<E, F: FnMut(u8, u64, u16) -> Result<Vec<Hash>, E>> Nodes for TileNodes<F> {
    type Error = TileNodesError<E>;

    fn node(&mut self, id: NodeId) -> Result<Hash, TileNodesError<E>> {
        let (level, start, count) = id.tile_range();
        let hashes = (self.0)(level, start, count).map_err(TileNodesError::Source)?;
        if hashes.len() != usize::from(count) {
            return Err(TileNodesError::Missing(MissingNode(id)));
        }
        fold_complete(hashes).ok_or(TileNodesError::Missing(MissingNode(id)))
    }
}

/// The hash of a complete subtree is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has no hash for node {} of level {}", .0.index, .0.level)]
pub struct MissingNode(pub NodeId);

/// A node could not be computed from tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileNodesError<E> {
    /// The source of tile hashes failed.
    #[error("the hashes of a tile cannot be read")]
    Source(#[source] E),
    /// The source answered another number of hashes than was asked for.
    #[error(transparent)]
    Missing(MissingNode),
}

/// A proof cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// There is no such entry in a tree of this size.
    #[error("entry {index} is not in a log of {size} entries (the first entry is 0)")]
    IndexOutOfRange {
        /// The entry asked for.
        index: u64,
        /// The size of the tree it was asked in.
        size: u64,
    },
    /// The first size is above the second.
    #[error("a log of {old} entries cannot be a prefix of one of {new}")]
    SizesReversed {
        /// The size of the supposed prefix.
        old: u64,
        /// The size of the supposed continuation.
        new: u64,
    },
    /// A stored hash cannot be had.
    #[error("a hash of the log cannot be read")]
    Nodes(#[from] E),
}

/// A proof shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The index does not lie in the tree.
    #[error("the entry's index is not below the size of the log")]
    IndexOutOfRange,
    /// The old tree is larger than the new one.
    #[error("the old log is larger than the new one")]
    SizesReversed,
    /// Too few or too many hashes for this index and these sizes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The proof leads to another root.
    #[error("the proof does not lead to the signed root")]
    Root,
}

/// Returns the place where RFC 6962 splits a range of leaves: after the largest power of two below its length.
fn split(begin: u64, end: u64) -> Option<u64> {
    let length = end.checked_sub(begin)?;
    let last = length.checked_sub(1).filter(|last| *last > 0)?;
    begin.checked_add(1_u64.checked_shl(last.ilog2())?)
}

/// The hash over leaves `begin..end`, where `begin` is a multiple of the smallest power of two
/// that is not below the length; all ranges made by [`split`] from `0..size` are.
fn range_hash<N: Nodes>(mut begin: u64, end: u64, nodes: &mut N) -> Result<Hash, N::Error> {
    // The complete subtrees from left to right, then joined from the right: at most 64.
    let mut roots = Vec::new();
    loop {
        let length = end.saturating_sub(begin);
        let Some(level) = length.checked_ilog2() else { break };
        let id =
            NodeId { level: u8::try_from(level).unwrap_or(63), index: begin.checked_shr(level).unwrap_or(0) };
        roots.push(nodes.node(id)?);
        begin = begin.saturating_add(1_u64.checked_shl(level).unwrap_or(u64::MAX));
    }
    let mut from_right = roots.iter().rev();
    Ok(from_right
        .next()
        .map_or(Hash::EMPTY_ROOT, |last| from_right.fold(*last, |right, left| node_hash(left, &right))))
}

/// The root over a power of two of hashes; `None` for any other number.
pub(crate) fn fold_complete(mut hashes: Vec<Hash>) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    while hashes.len() > 1 {
        hashes = hashes.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    hashes.first().copied()
}

struct Recorder(Vec<NodeId>);

impl Nodes for Recorder {
    type Error = Infallible;

    fn node(&mut self, id: NodeId) -> Result<Hash, Infallible> {
        self.0.push(id);
        Ok(Hash::EMPTY_ROOT)
    }
}

const _: () = assert!(TILE_WIDTH == 256, "`tile_range` divides levels by eight");

#[cfg(test)]
#[path = "proof/tests.rs"]
pub(crate) mod tests;
