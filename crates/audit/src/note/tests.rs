use super::*;
use alloc::vec;
use proptest::prelude::*;

// The key and note of the Go reference implementation (golang.org/x/mod/sumdb/note).
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(name, &[seed; 32]).unwrap()
}

#[test]
fn a_note_of_the_reference_implementation() {
    let peter: VerifierKey = PETER.parse().unwrap();
    assert_eq!(peter.to_string(), PETER);
    let note = Note::parse(PETER_NOTE.as_bytes()).unwrap();
    assert!(note.verify(&[peter]).unwrap().starts_with("If you think"));
    assert_eq!(note.encode(), PETER_NOTE);
}

#[test]
fn signs_and_verifies() {
    let log = key("acme.example/log", 1);
    let note = Note::sign("one\n\ntwo\n", &[&log]).unwrap();
    let read = Note::parse(note.encode().as_bytes()).unwrap();
    assert_eq!(read, note);
    assert_eq!(read.verify(&[log.verifier()]), Ok("one\n\ntwo\n"));
    assert_eq!(log.verifier().to_string().parse(), Ok(log.verifier()));
}

#[test]
fn cosignatures_by_unknown_keys_are_kept_and_ignored() {
    let (log, witness) = (key("acme.example/log", 1), key("witness.example", 2));
    let mut note = Note::sign("text\n", &[&log]).unwrap();
    note.merge(&Note::sign("text\n", &[&witness]).unwrap()).unwrap();
    note.merge(&Note::sign("text\n", &[&witness]).unwrap()).unwrap();
    assert_eq!(note.signatures().len(), 2);
    let read = Note::parse(note.encode().as_bytes()).unwrap();
    assert_eq!(read.encode(), note.encode());
    assert_eq!(read.verify(&[log.verifier()]), Ok("text\n"));
    assert_eq!(read.verify(&[witness.verifier(), log.verifier()]), Ok("text\n"));
    // A signature type that we do not know has another length and key id.
    let foreign = format!("{}\u{2014} pq.example {}\n", note.encode(), STANDARD.encode([9; 2500]));
    assert_eq!(Note::parse(foreign.as_bytes()).unwrap().verify(&[log.verifier()]), Ok("text\n"));
    assert_eq!(note.merge(&Note::sign("other\n", &[&witness]).unwrap()), Err(NoteError::OtherText));
}

#[test]
fn a_bad_signature_in_a_known_name_spoils_the_note() {
    let (log, witness) = (key("acme.example/log", 1), key("witness.example", 2));
    let mut note = Note::sign("text\n", &[&log, &witness]).unwrap();
    note.signatures[1].signature[10] ^= 1;
    assert_eq!(note.verify(&[log.verifier()]), Ok("text\n"));
    let spoilt = Err(NoteError::Signature { name: "witness.example".into() });
    assert_eq!(note.verify(&[log.verifier(), witness.verifier()]), spoilt);
    // A second, bad line of the log's own key must not hide behind the good one.
    let mut doubled = Note::sign("text\n", &[&log, &log]).unwrap();
    doubled.signatures[1].signature[63] ^= 1;
    assert!(doubled.verify(&[log.verifier()]).is_err());
}

#[test]
fn same_name_or_same_id_is_not_the_same_key() {
    let (log, impostor) = (key("acme.example/log", 1), key("acme.example/log", 2));
    let note = Note::sign("text\n", &[&impostor]).unwrap();
    let expected = format!("acme.example/log+{}", impostor.verifier().id());
    assert_eq!(note.verify(&[log.verifier()]), Err(NoteError::UnknownKey { signers: expected }));
    let mut renamed = Note::sign("text\n", &[&log]).unwrap();
    renamed.signatures[0].name = KeyName::new("other").unwrap();
    assert!(matches!(renamed.verify(&[log.verifier()]), Err(NoteError::UnknownKey { .. })));
    assert!(matches!(note.verify(&[]), Err(NoteError::UnknownKey { .. })));
}

#[test]
fn malformed_notes_are_refused() {
    let good = Note::sign("text\n", &[&key("a", 1)]).unwrap().encode();
    let line = good.strip_prefix("text\n\n").unwrap();
    for note in [
        "".into(),
        "\n\n".into(),
        "text\n".into(),
        "text\n\n".into(),
        format!("text\n{line}"),
        format!("\n\n{}", line.trim_end()),
        format!("{good}\n"),
        format!("{good}x"),
        good.trim_end().into(),
        format!("te\txt\n\n{line}"),
        format!("te\rxt\n\n{line}"),
        good.replace('\u{2014}', "-"),
        good.replace("\u{2014} ", "\u{2014}"),
        good.replace(" a ", "  "),
        good.replace(" a ", " a+b "),
        good.replace(" a ", " a  "),
        good.replace("=\n", "\n"),
        format!("text\n\n{line}\n{line}"),
        "text\n\n\u{2014} a AAAAAA==\n".into(),
    ] {
        assert!(
            Note::parse(note.as_bytes())
                .and_then(|note| note.verify(&[key("a", 1).verifier()]).map(drop))
                .is_err(),
            "{note:?}"
        );
    }
    assert_eq!(Note::parse(b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(NoteError::Text));
    assert_eq!(
        Note::parse(format!("text\n\n{}", line.repeat(SIGNATURES_MAX + 1)).as_bytes()),
        Err(NoteError::Limit)
    );
    assert!(Note::parse(format!("text\n\n{}", line.repeat(16)).as_bytes()).is_ok());
    assert_eq!(Note::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NoteError::Limit));
    for text in ["", "no newline", "tab\t\n", "nul\0\n"] {
        assert_eq!(Note::sign(text, &[&key("a", 1)]), Err(NoteError::Text));
    }
    assert_eq!(Note::sign("text\n", &[]), Err(NoteError::Unsigned));
}

#[test]
fn malformed_keys_are_refused() {
    let upper = PETER.replace("c74f20a3", "C74F20A3");
    for (vkey, error) in [
        ("", KeyError::Form),
        ("name", KeyError::Form),
        ("name+c74f20a3", KeyError::Form),
        (upper.as_str(), KeyError::Form),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
        ("PeterNeumanm+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
        ("PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Algorithm(4)),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=", KeyError::Form),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Name),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Name),
        // The neutral element verifies a forged signature over any text unless it is refused.
        ("a+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", KeyError::PublicKey),
    ] {
        assert_eq!(vkey.parse::<VerifierKey>(), Err(error), "{vkey}");
    }
    for name in ["", "a b", "a\u{a0}b", "a+b", "a\nb", "a\u{2003}b"] {
        assert_eq!(SigningKey::from_seed(name, &[1; 32]).err(), Some(KeyError::Name));
    }
}

#[test]
fn a_signing_key_is_erased_when_dropped() {
    // Without the feature `zeroize` of `ed25519-dalek` this does not compile.
    const fn erased<K: zeroize::ZeroizeOnDrop>() {}
    erased::<ed25519_dalek::SigningKey>();
}

#[test]
fn a_signing_key_is_not_printed() {
    let printed = format!("{:?}", key("acme.example/log", 0xab));
    assert!(printed.starts_with("SigningKey { name: KeyName(\"acme.example/log\"), id: KeyId("), "{printed}");
    assert!(!printed.contains("171") && !printed.contains("abab"), "{printed}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Note::parse(&bytes).is_err());
    }

    #[test]
    fn what_parses_is_written_the_same(note in "[a\n]{0,6}\n\n(\u{2014} [a +]{1,3} [AQg=+/]{4,12}\n?){0,3}") {
        if let Ok(parsed) = Note::parse(note.as_bytes()) {
            prop_assert_eq!(parsed.encode(), note);
        }
    }

    #[test]
    fn no_text_is_a_key_by_accident(vkey in "[a-z+]{0,4}\\+[0-9a-f]{8}\\+[A-Za-z0-9+/=]{0,44}") {
        prop_assert!(vkey.parse::<VerifierKey>().is_err());
    }
}
