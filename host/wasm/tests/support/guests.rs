//! The guests of `plugins/`, built when they are older than their sources.

use bytes::Bytes;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The component of a guest of `plugins/`, by the name of its crate.
pub fn guest(name: &str) -> Bytes {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(build);
    fs::read(dir.join(format!("{}.wasm", name.replace('-', "_")))).unwrap().into()
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    fs::create_dir_all(&target).unwrap();
    // Tests run in processes of their own; one builds, the others wait and find it done.
    let stamp = File::options().create(true).append(true).open(target.join("stamp")).unwrap();
    stamp.lock().unwrap();
    let built = fs::metadata(target.join("built")).and_then(|file| file.modified()).ok();
    let newest = newest(&root.join("plugins")).max(newest(&root.join("wit")));
    if built.is_none_or(|built| built <= newest) {
        cargo_build(&root.join("plugins"), &target);
        fs::write(target.join("built"), "").unwrap();
    }
    target.join("wasm32-wasip2/release")
}

fn cargo_build(plugins: &Path, target: &Path) {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(target)
        .current_dir(plugins)
        // Settings for the host's own build do not hold for guests.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the guests could not be built (is the target there? rustup target add wasm32-wasip2):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        newest = newest.max(match metadata.is_dir() {
            true if entry.file_name() == "target" => continue,
            true => self::newest(&entry.path()),
            false => metadata.modified().unwrap(),
        });
    }
    newest
}
