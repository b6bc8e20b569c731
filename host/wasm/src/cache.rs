//! Components and their compiled code on disk.
//!
//! `<digest>.wasm` is the component, checked against its digest whenever it is read;
//! `<digest>-<engine tag>.cwasm` is its code, which the hub alone has written: a keyed hash over
//! digest, tag, facts and code stands before it, and a file without the right one is deleted and made
//! anew. Files have mode 0600; a new file gets its name only when it is whole and on disk.

use crate::compile::Compiled;
use ring::hmac;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use weir_core::digest::Digest;
use weir_core::port::ComponentFacts;

const MAGIC: &[u8; 8] = b"weircw1\n";
const MAC_BYTES: usize = 32;
const KEY_FILE: &str = "cache.key";

pub(crate) struct Cache {
    dir: PathBuf,
    tag: String,
    key: hmac::Key,
}

impl Cache {
    /// Opens the folder; makes it and its key at the first start.
    pub(crate) fn open(dir: &Path, tag: String) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &load_key(dir)?);
        Ok(Self { dir: dir.to_owned(), tag, key })
    }

    /// The code of a component, when it is there and whole. A file that is not is deleted.
    pub(crate) fn code(&self, digest: &Digest) -> io::Result<Option<Compiled>> {
        let path = self.code_path(digest);
        let Some(file) = read(&path)? else { return Ok(None) };
        match self.open_sealed(digest, &file) {
            Some(compiled) => Ok(Some(compiled)),
            None => {
                tracing::warn!(%digest, "cached code is damaged or not the hub's own; it is compiled anew");
                remove(&path)?;
                Ok(None)
            }
        }
    }

    /// The component itself, when it is there and is the one of that name.
    pub(crate) fn component(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let path = self.component_path(digest);
        match read(&path)? {
            Some(bytes) if digest_of(&bytes) == *digest => Ok(Some(bytes)),
            Some(_) => {
                tracing::warn!(%digest, "a stored component is damaged");
                remove(&path)?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Keeps a component and its code.
    pub(crate) fn put(
        &self,
        digest: &Digest,
        component: &[u8],
        compiled: &Compiled,
    ) -> io::Result<()> {
        if read(&self.component_path(digest))?.is_none_or(|bytes| bytes != component) {
            write(&self.component_path(digest), &[component])?;
        }
        let facts = serde_json::to_vec(&compiled.facts)?;
        let length = u32::try_from(facts.len()).map_err(io::Error::other)?.to_le_bytes();
        let head = self.head(digest);
        let mut mac = hmac::Context::with_key(&self.key);
        let sealed = [head.as_slice(), &length, &facts, &compiled.code];
        sealed.iter().for_each(|part| mac.update(part));
        let mac = mac.sign();
        let parts = [[MAGIC.as_slice(), mac.as_ref()].as_slice(), &sealed].concat();
        write(&self.code_path(digest), &parts)
    }

    /// Deletes a component and its code of every engine.
    pub(crate) fn forget(&self, digest: &Digest) -> io::Result<()> {
        let hex = digest.hex();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&hex)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn code_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}.cwasm", digest.hex(), self.tag))
    }

    fn component_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }

    /// What the sealed part begins with: which component, which engine.
    fn head(&self, digest: &Digest) -> Vec<u8> {
        [digest.as_bytes().as_slice(), self.tag.as_bytes()].concat()
    }

    fn open_sealed(&self, digest: &Digest, file: &[u8]) -> Option<Compiled> {
        let (mac, sealed) = file.strip_prefix(MAGIC)?.split_at_checked(MAC_BYTES)?;
        hmac::verify(&self.key, sealed, mac).ok()?;
        let rest = sealed.strip_prefix(self.head(digest).as_slice())?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let facts_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (facts, code) = rest.split_at_checked(facts_bytes)?;
        let facts: ComponentFacts = serde_json::from_slice(facts).ok()?;
        Some(Compiled { facts, code: code.to_vec() })
    }
}

/// SHA-256 of a component.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::from_bytes(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn load_key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join(KEY_FILE);
    if let Some(key) = read(&path)?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    // A key of the wrong length vouches for nothing, so it is replaced like a missing one.
    write(&path, &[&key])?;
    Ok(key)
}

/// A whole file under its name, or none: readable by the owner alone, and on disk.
fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // Two may write the same file at once: an upload that is sent twice.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("{}-{write}.new", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> Compiled {
        let facts = ComponentFacts { imports: vec![], exports: vec!["a".into()], bytes: 3 };
        Compiled { facts, code: b"code".to_vec() }
    }

    #[test]
    fn what_was_put_comes_back_and_is_readable_by_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "tag".into()).unwrap();
        let digest = digest_of(b"abc");
        cache.put(&digest, b"abc", &sample()).unwrap();
        assert_eq!(cache.code(&digest).unwrap().unwrap().code, b"code");
        assert_eq!(cache.component(&digest).unwrap().unwrap(), b"abc");
        for entry in fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        cache.forget(&digest).unwrap();
        assert!(cache.code(&digest).unwrap().is_none());
        assert!(cache.component(&digest).unwrap().is_none());
    }

    #[test]
    fn one_component_can_be_kept_by_many_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "tag".into()).unwrap();
        let component = vec![7; 1 << 20];
        let digest = digest_of(&component);
        std::thread::scope(|scope| {
            let put = || (0..8).all(|_| cache.put(&digest, &component, &sample()).is_ok());
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(put)).collect();
            assert!(writers.into_iter().all(|writer| writer.join().unwrap()));
        });
        assert_eq!(cache.component(&digest).unwrap().unwrap(), component);
        assert_eq!(cache.code(&digest).unwrap().unwrap().code, b"code");
    }

    #[test]
    fn a_file_with_any_bit_turned_is_never_taken_for_code() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "tag".into()).unwrap();
        let digest = digest_of(b"abc");
        cache.put(&digest, b"abc", &sample()).unwrap();
        let path = cache.code_path(&digest);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(cache.code(&digest).unwrap().is_none(), "byte {at}");
            assert!(!path.exists());
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(cache.code(&digest).unwrap().is_none());
    }

    #[test]
    fn code_of_another_engine_component_or_hub_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "tag".into()).unwrap();
        let (digest, other) = (digest_of(b"abc"), digest_of(b"def"));
        cache.put(&digest, b"abc", &sample()).unwrap();
        let code = fs::read(cache.code_path(&digest)).unwrap();
        fs::write(cache.code_path(&other), &code).unwrap();
        assert!(cache.code(&other).unwrap().is_none());
        let newer = Cache::open(dir.path(), "newer".into()).unwrap();
        fs::write(newer.code_path(&digest), &code).unwrap();
        assert!(newer.code(&digest).unwrap().is_none());
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        let other_hub = Cache::open(dir.path(), "tag".into()).unwrap();
        assert!(other_hub.code(&digest).unwrap().is_none());
    }

    #[test]
    fn a_damaged_component_is_not_taken_for_the_one_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "tag".into()).unwrap();
        let digest = digest_of(b"abc");
        cache.put(&digest, b"abc", &sample()).unwrap();
        fs::write(cache.component_path(&digest), b"abd").unwrap();
        assert!(cache.component(&digest).unwrap().is_none());
    }
}
