#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "an overflow in a test is a failed test"
)]

use super::*;
use crate::{hash::leaf_hash, tree::Frontier};
use alloc::{string::String, vec};
use proptest::prelude::*;

/// The eight entries of the certificate-transparency reference tests.
pub(crate) fn reference_leaves() -> [&'static [u8]; 8] {
    [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ]
}

pub(crate) fn test_leaves(count: usize) -> Vec<Hash> {
    (0..count as u64).map(|entry| leaf_hash(&entry.to_be_bytes())).collect()
}

/// MTH of RFC 6962, section 2.1, word for word.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of RFC 6962, section 2.1.1, word for word.
fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k {
        (naive_inclusion(index, left), right)
    } else {
        (naive_inclusion(index - k, right), left)
    };
    path.push(naive_root(sibling));
    path
}

/// SUBPROOF of RFC 6962, section 2.1.2, word for word.
fn naive_consistency(old: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if known { vec![] } else { vec![naive_root(leaves)] };
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if old <= k {
        (naive_consistency(old, left, known), right)
    } else {
        (naive_consistency(old - k, right, false), left)
    };
    path.push(naive_root(sibling));
    path
}

fn naive_split(length: usize) -> usize {
    let mut k = 1;
    while k * 2 < length {
        k *= 2;
    }
    k
}

fn hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| alloc::format!("{hash}")).collect()
}

#[test]
fn certificate_transparency_reference_proofs() {
    let leaves: Vec<Hash> = reference_leaves().iter().map(|entry| leaf_hash(entry)).collect();
    let inclusion = |index, size| hex(&inclusion(index, size, &mut Leaves(&leaves)).unwrap());
    assert!(inclusion(0, 1).is_empty());
    assert_eq!(
        inclusion(0, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        inclusion(5, 8),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(inclusion(2, 3), ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]);
    assert_eq!(
        inclusion(1, 5),
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
    let consistency = |old, new| hex(&consistency(old, new, &mut Leaves(&leaves)).unwrap());
    assert!(consistency(1, 1).is_empty());
    assert_eq!(
        consistency(1, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        consistency(6, 8),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(
        consistency(2, 5),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
}

#[test]
fn all_proofs_up_to_70_leaves_follow_the_definition_and_verify() {
    let leaves = test_leaves(70);
    for size in 1..=leaves.len() {
        let tree = &leaves[..size];
        let root = naive_root(tree);
        let size64 = size as u64;
        for index in 0..size {
            let path = inclusion(index as u64, size64, &mut Leaves(tree)).unwrap();
            assert_eq!(path, naive_inclusion(index, tree));
            assert_eq!(verify_inclusion(&tree[index], index as u64, size64, &root, &path), Ok(()));
        }
        for old in 0..=size {
            let path = consistency(old as u64, size64, &mut Leaves(tree)).unwrap();
            assert_eq!(path, if old == 0 { vec![] } else { naive_consistency(old, tree, true) });
            let old_root = naive_root(&tree[..old]);
            assert_eq!(verify_consistency((old as u64, &old_root), (size64, &root), &path), Ok(()));
        }
    }
}

#[test]
fn impossible_questions_are_refused() {
    let leaves = test_leaves(4);
    assert_eq!(inclusion(4, 4, &mut Leaves(&leaves)), Err(ProofError::IndexOutOfRange { index: 4, size: 4 }));
    assert_eq!(inclusion(0, 0, &mut Leaves(&leaves)), Err(ProofError::IndexOutOfRange { index: 0, size: 0 }));
    assert_eq!(consistency(5, 4, &mut Leaves(&leaves)), Err(ProofError::SizesReversed { old: 5, new: 4 }));
    assert!(matches!(inclusion(0, 5, &mut Leaves(&leaves)), Err(ProofError::Nodes(MissingNode(_)))));
    assert!(inclusion_nodes(u64::MAX - 1, u64::MAX).unwrap().len() <= 128);
    assert!(consistency_nodes(u64::MAX / 3, u64::MAX).is_ok());
    assert_eq!(root(0, &mut Leaves(&[])), Ok(Hash::EMPTY_ROOT));
}

#[test]
fn empty_trees_need_the_empty_root() {
    let other = leaf_hash(b"x");
    let empty = Hash::EMPTY_ROOT;
    assert_eq!(verify_consistency((0, &empty), (0, &empty), &[]), Ok(()));
    assert_eq!(verify_consistency((0, &empty), (1, &other), &[]), Ok(()));
    assert_eq!(verify_consistency((0, &other), (1, &other), &[]), Err(VerifyError::Root));
    assert_eq!(verify_consistency((0, &empty), (1, &other), &[other]), Err(VerifyError::Length));
    assert_eq!(verify_consistency((1, &other), (1, &empty), &[]), Err(VerifyError::Root));
    assert_eq!(verify_consistency((2, &other), (1, &other), &[]), Err(VerifyError::SizesReversed));
}

#[test]
fn hostile_sizes_do_not_overflow() {
    let hash = leaf_hash(b"x");
    for length in [0, 1, 63, 64, 65, 200] {
        let path = vec![hash; length];
        for size in [1, 2, u64::MAX - 1, u64::MAX, 1 << 63] {
            for index in [0, 1, size - 1, u64::MAX] {
                assert!(verify_inclusion(&hash, index, size, &Hash::EMPTY_ROOT, &path).is_err());
            }
            for old in [1, 2, size / 2, size - 1, size] {
                assert!(verify_consistency((old, &hash), (size, &Hash::EMPTY_ROOT), &path).is_err());
            }
        }
    }
}

#[test]
fn an_asynchronous_store_can_fetch_first() {
    let leaves = test_leaves(1000);
    let mut fetched = BTreeMap::new();
    for id in inclusion_nodes(777, 1000).unwrap() {
        fetched.insert(id, Leaves(&leaves).node(id).unwrap());
    }
    assert_eq!(inclusion(777, 1000, &mut fetched), Ok(naive_inclusion(777, &leaves)));
}

#[test]
fn proofs_from_tiles_read_little() {
    let leaves = test_leaves(70_000);
    let mut tile_hashes: Vec<Vec<Hash>> = vec![leaves.clone()];
    while tile_hashes.last().unwrap().len() >= 256 {
        let (full, _) = tile_hashes.last().unwrap().as_chunks::<256>();
        let above = full.iter().map(|tile| naive_root(tile)).collect();
        tile_hashes.push(above);
    }
    let mut read = 0;
    let mut nodes = TileNodes(|level: u8, start: u64, count: u16| {
        assert!(start.is_multiple_of(u64::from(count)) && count <= 128);
        assert_eq!(start / 256, (start + u64::from(count) - 1) / 256, "crosses a tile");
        read += count;
        let row = tile_hashes.get(usize::from(level)).ok_or("no such level")?;
        row.get(start as usize..start as usize + usize::from(count)).map(<[Hash]>::to_vec).ok_or("not there")
    });
    assert_eq!(inclusion(12_345, 70_000, &mut nodes), Ok(naive_inclusion(12_345, &leaves)));
    assert_eq!(consistency(54_321, 70_000, &mut nodes), Ok(naive_consistency(54_321, &leaves, true)));
    assert_eq!(root(70_000, &mut nodes), Ok(naive_root(&leaves)));
    assert!(read < 3000, "{read} hashes read");
    let mut short = TileNodes(|_, _, _| Ok::<_, Infallible>(vec![]));
    assert!(matches!(root(3, &mut short), Err(TileNodesError::Missing(_))));
}

#[test]
fn agrees_with_another_implementation() {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    let mut other = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    let mut mine = Frontier::new();
    let mut leaves = Vec::new();
    for entry in 0..200_u64 {
        other.push(entry.to_be_bytes().to_vec());
        leaves.push(leaf_hash(&entry.to_be_bytes()));
        mine.append(leaves[entry as usize]).unwrap();
        assert_eq!(other.root().as_bytes().as_slice(), mine.root().as_bytes());
        let path = inclusion(entry / 2, entry + 1, &mut Leaves(&leaves)).unwrap();
        assert_eq!(
            other.prove_inclusion((entry / 2) as usize).as_bytes(),
            path.iter().flat_map(Hash::as_bytes).copied().collect::<Vec<u8>>()
        );
        if entry > 0 {
            let path = consistency(entry / 2 + 1, entry + 1, &mut Leaves(&leaves)).unwrap();
            let theirs = other.prove_consistency((entry - entry / 2) as usize);
            assert_eq!(theirs.as_bytes(), path.iter().flat_map(Hash::as_bytes).copied().collect::<Vec<u8>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn proofs_follow_the_definition_and_verify((size, index, old) in (1..400_usize).prop_flat_map(|size| (Just(size), 0..size, 0..=size))) {
        let leaves = test_leaves(size);
        let root = naive_root(&leaves);
        let path = inclusion(index as u64, size as u64, &mut Leaves(&leaves)).unwrap();
        prop_assert_eq!(&path, &naive_inclusion(index, &leaves));
        prop_assert_eq!(verify_inclusion(&leaves[index], index as u64, size as u64, &root, &path), Ok(()));
        let path = consistency(old as u64, size as u64, &mut Leaves(&leaves)).unwrap();
        let old_root = naive_root(&leaves[..old]);
        prop_assert_eq!(verify_consistency((old as u64, &old_root), (size as u64, &root), &path), Ok(()));
    }

    #[test]
    fn a_damaged_inclusion_proof_fails((size, index) in (2..300_usize).prop_flat_map(|size| (Just(size), 0..size)), damage in 0..5, at in any::<prop::sample::Index>()) {
        let leaves = test_leaves(size);
        let root = naive_root(&leaves);
        let mut path = inclusion(index as u64, size as u64, &mut Leaves(&leaves)).unwrap();
        let (mut leaf, mut claimed) = (leaves[index], index as u64);
        match damage {
            0 => *at.get_mut(&mut path) = Hash::EMPTY_ROOT,
            1 => drop(path.remove(at.index(path.len()))),
            2 => path.insert(at.index(path.len() + 1), Hash::EMPTY_ROOT),
            3 => leaf = Hash::EMPTY_ROOT,
            _ => claimed = (claimed + 1 + at.index(size - 1) as u64) % size as u64,
        }
        prop_assert!(verify_inclusion(&leaf, claimed, size as u64, &root, &path).is_err());
    }

    #[test]
    fn a_fork_has_no_consistency_proof((size, old) in (2..300_usize).prop_flat_map(|size| (Just(size), 1..size)), changed in any::<prop::sample::Index>()) {
        let leaves = test_leaves(size);
        let mut fork = leaves[..old].to_vec();
        fork[changed.index(old)] = Hash::EMPTY_ROOT;
        let (fork_root, root) = (naive_root(&fork), naive_root(&leaves));
        let honest = consistency(old as u64, size as u64, &mut Leaves(&leaves)).unwrap();
        prop_assert!(verify_consistency((old as u64, &fork_root), (size as u64, &root), &honest).is_err());
        let mut forged = leaves;
        forged[..old].copy_from_slice(&fork);
        let forged = consistency(old as u64, size as u64, &mut Leaves(&forged)).unwrap();
        prop_assert!(verify_consistency((old as u64, &fork_root), (size as u64, &root), &forged).is_err());
    }

    #[test]
    fn no_proof_makes_it_panic(index in any::<u64>(), old in any::<u64>(), size in any::<u64>(), length in 0..70_usize) {
        let path = vec![Hash::EMPTY_ROOT; length];
        let root = leaf_hash(b"other");
        prop_assert!(verify_inclusion(&root, index, size, &root, &path).is_err() || size == 1);
        prop_assert!(verify_consistency((old, &root), (size, &root), &path).is_err() || old == size);
    }
}
