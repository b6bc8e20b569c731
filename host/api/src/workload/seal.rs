//! `encrypt` and `decrypt`: AES-256-GCM with a key of the module's own.
//!
//! The key is derived (HKDF-SHA256) from the host's secret, the module's name and its generation id,
//! which are also the associated data. Modules choose their initialization vectors, and choose them
//! twice; so the nonce is a random one in front of the ciphertext, and theirs is associated data, too:
//! the same one must be shown to decrypt.

use super::error::Refusal;
use super::{Workload, read};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plain {
    plaintext: String,
    initialization_vector: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sealed {
    ciphertext: String,
    initialization_vector: String,
}

#[derive(Serialize)]
pub(super) struct Ciphertext {
    ciphertext: String,
}

#[derive(Serialize)]
pub(super) struct Plaintext {
    plaintext: String,
}

pub(super) async fn encrypt(
    State(workload): State<Workload>,
    Path((module, generation)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Ciphertext>, Refusal> {
    workload.generation(&module, &generation)?;
    let plain: Plain = read(body).await?;
    let text = decoded("plaintext", &plain.plaintext)?;
    let vector = decoded("initializationVector", &plain.initialization_vector)?;
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|cause| Refusal::fault(&cause))?;
    let owner = Owner { module: &module, generation: &generation };
    let sealed = owner.seal(&workload.0.options.secret, nonce, &vector, text);
    Ok(Json(Ciphertext { ciphertext: STANDARD.encode(sealed) }))
}

pub(super) async fn decrypt(
    State(workload): State<Workload>,
    Path((module, generation)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Plaintext>, Refusal> {
    workload.generation(&module, &generation)?;
    let sealed: Sealed = read(body).await?;
    let text = decoded("ciphertext", &sealed.ciphertext)?;
    let vector = decoded("initializationVector", &sealed.initialization_vector)?;
    let owner = Owner { module: &module, generation: &generation };
    let plain = owner.open(&workload.0.options.secret, &vector, &text);
    let plain = plain.ok_or_else(|| Refusal::invalid("the ciphertext cannot be decrypted"))?;
    Ok(Json(Plaintext { plaintext: STANDARD.encode(plain) }))
}

fn decoded(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).map_err(|_| Refusal::invalid(format!("{field} is not base64")))
}

/// Whose data it is.
struct Owner<'a> {
    module: &'a str,
    generation: &'a str,
}

impl Owner<'_> {
    /// The parts with their lengths, so that no two owners or vectors read the same.
    fn associated(&self, vector: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in [self.module.as_bytes(), self.generation.as_bytes(), vector] {
            whole.extend_from_slice(&(part.len() as u64).to_be_bytes());
            whole.extend_from_slice(part);
        }
        whole
    }

    fn key(&self, secret: &[u8; 32]) -> LessSafeKey {
        let extracted =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"weir workload encrypt").extract(secret);
        let info = [self.associated(&[])];
        let info: Vec<&[u8]> = info.iter().map(Vec::as_slice).collect();
        let key = extracted.expand(&info, &AES_256_GCM).expect("32 bytes are not too many");
        LessSafeKey::new(UnboundKey::from(key))
    }

    /// Nonce, ciphertext and tag.
    fn seal(
        &self,
        secret: &[u8; 32],
        nonce: [u8; NONCE_LEN],
        vector: &[u8],
        mut text: Vec<u8>,
    ) -> Vec<u8> {
        let associated = Aad::from(self.associated(vector));
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key(secret)
            .seal_in_place_append_tag(unique, associated, &mut text)
            .expect("a body is shorter than 64 GiB");
        [&nonce[..], &text].concat()
    }

    fn open(&self, secret: &[u8; 32], vector: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let associated = Aad::from(self.associated(vector));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key(secret).open_in_place(nonce, associated, &mut text).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_module_generation_and_vector_open_what_was_sealed() {
        let owner = Owner { module: "m", generation: "1" };
        let (secret, nonce) = ([7; 32], [3; NONCE_LEN]);
        let sealed = owner.seal(&secret, nonce, b"iv", b"text".to_vec());
        assert_eq!(owner.open(&secret, b"iv", &sealed).unwrap(), b"text");
        assert!(owner.open(&secret, b"other", &sealed).is_none());
        assert!(owner.open(&[8; 32], b"iv", &sealed).is_none());
        for (module, generation) in [("m", "2"), ("n", "1"), ("m1", "")] {
            assert!(Owner { module, generation }.open(&secret, b"iv", &sealed).is_none());
        }
        let mut changed = sealed.clone();
        changed[14] ^= 1;
        assert!(owner.open(&secret, b"iv", &changed).is_none());
        assert!(owner.open(&secret, b"iv", &sealed[..11]).is_none());
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same() {
        let owner = Owner { module: "m", generation: "1" };
        let one = owner.seal(&[7; 32], [1; NONCE_LEN], b"iv", b"text".to_vec());
        let two = owner.seal(&[7; 32], [2; NONCE_LEN], b"iv", b"text".to_vec());
        assert_ne!(one[NONCE_LEN..], two[NONCE_LEN..]);
    }
}
