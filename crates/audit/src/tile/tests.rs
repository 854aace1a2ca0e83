use super::*;
use crate::proof::tests::{naive_root, test_leaves};
use alloc::{collections::BTreeMap, vec};
use proptest::prelude::*;

#[test]
fn paths_of_the_specification() {
    for (id, path) in [
        (TileId::new(0, 0, 256), "tile/0/000"),
        (TileId::new(1, 1_234_067, 256), "tile/1/x001/x234/067"),
        (TileId::new(63, 1000, 255), "tile/63/x001/000.p/255"),
        (TileId::new(0, 273, 112), "tile/0/273.p/112"),
        (TileId::new(0, u64::MAX, 1), "tile/0/x018/x446/x744/x073/x709/x551/615.p/1"),
    ] {
        assert_eq!(id.unwrap().path(), path);
        assert_eq!(TileId::parse_path(path), id);
    }
    assert_eq!(BundleId::new(1_234_067, 8).unwrap().path(), "tile/entries/x001/x234/067.p/8");
    assert_eq!(BundleId::parse_path("tile/entries/x001/x234/067.p/8"), BundleId::new(1_234_067, 8));
}

#[test]
fn other_paths_are_refused() {
    for path in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/64/000",
        "tile/256/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1.p/1",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/+01",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/entries/000",
        "../tile/0/000",
    ] {
        assert_eq!(TileId::parse_path(path), Err(TileError::Path), "{path}");
    }
    assert_eq!(BundleId::parse_path("tile/0/000"), Err(TileError::Path));
    assert!(
        TileId::new(64, 0, 1).is_err() && TileId::new(0, 0, 0).is_err() && TileId::new(0, 0, 257).is_err()
    );
}

#[test]
fn the_examples_of_which_tiles_a_log_has() {
    let of = |size| {
        let mut counts = BTreeMap::new();
        for tile in tiles(size) {
            *counts.entry((tile.level(), tile.width())).or_insert(0) += 1;
        }
        counts.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(of(0), []);
    assert_eq!(of(1), [((0, 1), 1)]);
    assert_eq!(of(256), [((0, 256), 1), ((1, 1), 1)]);
    assert_eq!(of(70_000), [((0, 112), 1), ((0, 256), 273), ((1, 17), 1), ((1, 256), 1), ((2, 1), 1)]);
    assert_eq!(bundles(70_000).count(), 274);
    assert_eq!(bundles(70_000).last(), BundleId::new(273, 112).ok());
    // The sizes a hostile checkpoint may claim are named lazily.
    assert_eq!(bundles(u64::MAX).next(), BundleId::new(0, 256).ok());
    assert_eq!(tiles(u64::MAX).next(), TileId::new(0, 0, 256).ok());
}

#[test]
fn the_builder_makes_exactly_the_tiles_of_its_size() {
    let leaves = test_leaves(66_000);
    let mut builder = TileBuilder::new();
    let mut made = BTreeMap::new();
    for (position, leaf) in leaves.iter().enumerate() {
        let size = position as u64;
        if [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537].contains(&size) {
            let mut all = made.clone();
            all.extend(builder.partial().map(|(id, hashes)| (id, hashes.to_vec())));
            assert_eq!(
                all.keys().copied().collect::<Vec<_>>(),
                {
                    let mut ids: Vec<_> = tiles(size).collect();
                    ids.sort();
                    ids
                },
                "size {size}"
            );
        }
        builder.append(*leaf, |id, hashes| assert_eq!(made.insert(id, hashes.to_vec()), None)).unwrap();
    }
    assert_eq!(builder.tree().root(), naive_root(&leaves));
    assert_eq!(made[&TileId::new(0, 1, 256).unwrap()], leaves[256..512]);
    assert_eq!(made[&TileId::new(1, 0, 256).unwrap()][3], naive_root(&leaves[768..1024]));
    let top: Vec<_> =
        builder.partial().filter(|(id, _)| id.level() == 2).map(|(_, hashes)| hashes.to_vec()).collect();
    assert_eq!(top, [vec![naive_root(&leaves[..65_536])]]);
}

#[test]
fn tiles_and_bundles_have_the_documented_bytes() {
    let hashes = test_leaves(3);
    let bytes = encode_tile(&hashes);
    assert_eq!(decode_tile(&bytes, 3), Ok(hashes));
    for wrong in [2, 4, 0] {
        assert_eq!(decode_tile(&bytes, wrong), Err(TileError::TileLength { width: wrong, bytes: 96 }));
    }
    assert!(decode_tile(&bytes[..95], 3).is_err());
    assert_eq!(encode_bundle([b"".as_slice(), b"ab"]), Ok(vec![0, 0, 0, 2, b'a', b'b']));
    assert_eq!(encode_bundle([vec![0; ENTRY_BYTES_MAX + 1]]), Err(TileError::EntryTooLong { bytes: 65_536 }));
    assert!(encode_bundle([vec![0; ENTRY_BYTES_MAX]]).is_ok());
    assert_eq!(decode_bundle(&[0, 1, b'a', 0]), Err(TileError::BundleCutOff { entry: 1 }));
    assert_eq!(decode_bundle(&[0, 2, b'a']), Err(TileError::BundleCutOff { entry: 0 }));
    assert_eq!(decode_bundle(&[0; 514]), Err(TileError::BundleOverfull));
    assert_eq!(decode_bundle(&[]), Ok(vec![]));
}

proptest! {
    #[test]
    fn paths_are_one_to_one(level in 0..64_u8, index in any::<u64>(), width in 1..=256_u16) {
        let tile = TileId::new(level, index, width).unwrap();
        prop_assert_eq!(TileId::parse_path(&tile.path()), Ok(tile));
        let bundle = BundleId::new(index, width).unwrap();
        prop_assert_eq!(BundleId::parse_path(&bundle.path()), Ok(bundle));
    }

    #[test]
    fn no_path_makes_it_panic(path in "tile/(entries|[0-9]{1,3})/[x0-9/.p]{0,30}|.{0,30}") {
        if let Ok(tile) = TileId::parse_path(&path) {
            prop_assert_eq!(tile.path(), path);
        } else if let Ok(bundle) = BundleId::parse_path(&path) {
            prop_assert_eq!(bundle.path(), path);
        }
    }

    #[test]
    fn a_tile_belongs_to_the_sizes_that_list_it(size in 0..70_000_u64, level in 0..4_u8, index in 0..280_u64, width in 1..=256_u16) {
        let tile = TileId::new(level, index, width).unwrap();
        prop_assert_eq!(tile.belongs_to(size), tiles(size).any(|listed| listed == tile));
        for listed in tiles(size) {
            prop_assert!(listed.belongs_to(size));
        }
        let bundle = BundleId::new(index, width).unwrap();
        prop_assert_eq!(bundle.belongs_to(size), bundles(size).any(|listed| listed == bundle));
    }

    #[test]
    fn bundles_are_read_as_written(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..=256)) {
        let bytes = encode_bundle(&entries).unwrap();
        prop_assert_eq!(decode_bundle(&bytes).unwrap(), entries);
    }

    #[test]
    fn no_bundle_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(entries) = decode_bundle(&bytes) {
            prop_assert_eq!(encode_bundle(entries), Ok(bytes));
        }
    }
}
