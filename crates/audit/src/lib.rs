//! What happened, provably: entries, Merkle tree, checkpoints, proofs. Pure.
