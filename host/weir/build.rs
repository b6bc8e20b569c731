//! Builds the demo's guest modules and leaves them where `demo` embeds them.
//!
//! They are a workspace of their own with their own target; what is missing is said in one line.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
const GUESTS: [&str; 3] = ["demo-v1", "demo-v2", "demo-v3"];

#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by its environment"
)]
fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn main() {
    let manifest = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let root = manifest.join("../..").canonicalize().expect("the workspace is two folders up");
    let plugins = root.join("plugins");
    for watched in
        ["plugins/Cargo.toml", "plugins/Cargo.lock", "plugins/weir-guest", "plugins/demo", "wit"]
    {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(var("OUT_DIR"));
    ensure_target();
    build(&plugins, &out.join("guests"));
    for guest in GUESTS {
        let file = format!("{}.wasm", guest.replace('-', "_"));
        let built = out.join("guests").join(TARGET).join("release").join(&file);
        std::fs::copy(&built, out.join(&file)).unwrap_or_else(|cause| {
            panic!("{} is missing after its build: {cause}", built.display())
        });
    }
}

fn ensure_target() {
    if has_target() {
        return;
    }
    println!("cargo::warning=the Wasm target is missing, rustup is asked for it");
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    if !added.is_ok_and(|status| status.success()) || !has_target() {
        panic!("the Wasm target is missing: rustup target add {TARGET}");
    }
}

fn has_target() -> bool {
    let asked =
        Command::new(var("RUSTC")).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|answer| {
        answer.status.success()
            && Path::new(String::from_utf8_lossy(&answer.stdout).trim()).exists()
    })
}

fn build(plugins: &Path, target_dir: &Path) {
    let mut cargo = Command::new(var("CARGO"));
    // What the outer build is told (flags, wrappers such as clippy's) is not meant for the guests.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME"
            || name.contains("RUSTFLAGS")
            || name.starts_with("RUSTC")
        {
            cargo.env_remove(&*name);
        }
    }
    cargo.current_dir(plugins).args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    for guest in GUESTS {
        cargo.args(["-p", guest]);
    }
    let output = cargo.output().expect("cargo runs, for it runs this script");
    if !output.status.success() {
        panic!("the demo's modules do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
