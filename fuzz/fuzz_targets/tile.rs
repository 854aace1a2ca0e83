//! Tiles, bundles and their paths, as an exported log holds them.
#![no_main]

use countersign_audit::{
    BundleId, TileId,
    tile::{decode_bundle, decode_tile, encode_bundle, encode_tile},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (width, bytes) = input;
    if let Ok(hashes) = decode_tile(bytes, width) {
        assert_eq!(encode_tile(&hashes), bytes);
    }
    if let Ok(entries) = decode_bundle(bytes) {
        assert_eq!(encode_bundle(&entries).unwrap(), bytes);
    }
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    if let Ok(tile) = TileId::parse_path(path) {
        assert_eq!(tile.path(), path);
    }
    if let Ok(bundle) = BundleId::parse_path(path) {
        assert_eq!(bundle.path(), path);
    }
});
