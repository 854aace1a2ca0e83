//! One entry with its proof.

use countersign_audit::{
    Checkpoint, ENTRY_BYTES_MAX, Receipt, ReceiptError, leaf_hash,
    receipt::{RECEIPT_BYTES_MAX, verdict_json},
    verify::explain,
};

use crate::{Printed, arguments::ProofArguments, folder, shown};

pub(crate) fn verify(arguments: &ProofArguments) -> Result<Printed, String> {
    let key = folder::key(&arguments.key)?;
    let file = folder::read_named(&arguments.file, RECEIPT_BYTES_MAX)?;
    let entry = arguments.entry.as_ref().map(|path| folder::read_named(path, ENTRY_BYTES_MAX)).transpose()?;
    let receipt = Receipt::parse(&file);
    let proved = receipt.as_ref().map_err(ReceiptError::clone).and_then(|receipt| {
        match (entry.as_deref(), receipt.entry.as_deref()) {
            (Some(entry), _) => {
                receipt.verify_entry(&key, entry).map(|checkpoint| (receipt, entry, checkpoint))
            }
            (None, Some(carried)) => receipt.verify(&key).map(|checkpoint| (receipt, carried, checkpoint)),
            (None, None) => Err(ReceiptError::NoEntry),
        }
    });
    let good = proved.is_ok();
    let text = match (&proved, arguments.json) {
        (Ok((receipt, entry, checkpoint)), true) => verdict_json(Ok((receipt.index, entry, checkpoint))),
        (Err(error), true) => verdict_json(Err(error)),
        (Ok((receipt, entry, checkpoint)), false) => describe(receipt, entry, checkpoint),
        (Err(error), false) => format!("NOT VERIFIED\n  {:<24} {}", error.code(), shown(&explain(error))),
    };
    Ok(Printed { text: text + "\n", good })
}

fn describe(receipt: &Receipt, entry: &[u8], checkpoint: &Checkpoint) -> String {
    let text = str::from_utf8(entry)
        .map_or_else(|_binary| format!("{} bytes that are not text", entry.len()), shown);
    let lines = [
        ("log", shown(checkpoint.origin())),
        ("signed", format!("{} entries with root {}", checkpoint.size(), checkpoint.root())),
        ("entry", format!("{} of {}: {text}", receipt.index, checkpoint.size())),
        ("leaf hash", leaf_hash(entry).to_string()),
    ];
    let mut out: String = lines.iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect();
    out.push_str("\nVERIFIED: the entry is in the log");
    out
}
