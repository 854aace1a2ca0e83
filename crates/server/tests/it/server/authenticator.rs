//! An authenticator in software: it makes passkeys and has them sign, and lies where a test wants it to.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_audit::sha256;
use serde_json::{Value, json};

pub(crate) const PRESENT: u8 = 0x01;
pub(crate) const VERIFIED: u8 = 0x04;
pub(crate) const SYNCABLE: u8 = 0x08;
pub(crate) const SYNCED: u8 = 0x10;
pub(crate) const MADE: u8 = 0x40;

enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

/// One passkey, with all that a test may have it say otherwise.
pub(crate) struct Passkey {
    key: Key,
    pub(crate) credential: Vec<u8>,
    pub(crate) handle: Option<String>,
    pub(crate) host: String,
    pub(crate) origin: String,
    pub(crate) flags: u8,
    pub(crate) counter: u32,
    pub(crate) algorithm: i64,
    /// What the browser says beside, or instead.
    pub(crate) client: Value,
    pub(crate) kinds: [&'static str; 2],
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Passkey {
    pub(crate) fn new(algorithm: i64) -> Self {
        let key = match algorithm {
            -8 => Key::EdDsa(Ed25519KeyPair::generate().unwrap()),
            -257 => Key::Rs256(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
            _ => Key::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
        };
        let mut credential = vec![0; 32];
        aws_lc_rs::rand::fill(&mut credential).unwrap();
        Self {
            key,
            credential,
            handle: None,
            host: String::new(),
            origin: String::new(),
            flags: PRESENT | VERIFIED,
            counter: 0,
            algorithm,
            client: json!({}),
            kinds: ["webauthn.create", "webauthn.get"],
        }
    }

    fn public_key(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.key {
            Key::Es256(pair) => pair.public_key().as_der().unwrap(),
            Key::EdDsa(pair) => pair.public_key().as_der().unwrap(),
            Key::Rs256(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Es256(pair) => pair.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec(),
            Key::EdDsa(pair) => pair.sign(bytes).as_ref().to_vec(),
            Key::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).unwrap();
                signature
            }
        }
    }

    fn client_data(&self, kind: &str, challenge: &Value) -> Vec<u8> {
        let mut said =
            json!({ "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false });
        said.as_object_mut().unwrap().extend(self.client.as_object().unwrap().clone());
        said.to_string().into_bytes()
    }

    fn authenticator_data(&self, flags: u8) -> Vec<u8> {
        [sha256(self.host.as_bytes()).as_bytes(), &[flags][..], &self.counter.to_be_bytes()].concat()
    }

    /// Makes it on the page that was told this. Origin and host are the page's, unless a test has set others.
    pub(crate) fn make(&mut self, ceremony: &Value) -> String {
        if self.origin.is_empty() {
            self.origin = ceremony["origin"].as_str().unwrap().to_owned();
        }
        let options = &ceremony["options"];
        if self.host.is_empty() {
            self.host = options["rp"]["id"].as_str().unwrap().to_owned();
        }
        self.handle = Some(options["user"]["id"].as_str().unwrap().to_owned());
        let length = u16::try_from(self.credential.len()).unwrap().to_be_bytes();
        // The key in COSE is not read: the browser hands it over.
        let made = [&[7; 16][..], &length, &self.credential, &[0xa5]].concat();
        let data = [self.authenticator_data(self.flags | MADE), made].concat();
        json!({
            "id": b64(&self.credential),
            "client_data": b64(self.client_data(self.kinds[0], &options["challenge"])),
            "authenticator_data": b64(data),
            "public_key": b64(self.public_key()),
            "algorithm": self.algorithm,
        })
        .to_string()
    }

    /// Signs what the page was told.
    pub(crate) fn get(&self, ceremony: &Value) -> String {
        let client_data = self.client_data(self.kinds[1], &ceremony["options"]["challenge"]);
        let data = self.authenticator_data(self.flags);
        let signature = self.sign(&[&data[..], sha256(&client_data).as_bytes()].concat());
        json!({
            "id": b64(&self.credential),
            "client_data": b64(client_data),
            "authenticator_data": b64(data),
            "signature": b64(signature),
            "user_handle": self.handle,
        })
        .to_string()
    }
}
