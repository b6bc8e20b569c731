//! Which components are taken, how they are compiled, and what the cache on disk is trusted with.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod support;

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Module, compiler, deliver, digest, guests, plain, runtime_in};
use weir_core::port::{ModuleRuntime, RuntimeError};
use weir_wasm::Compiler;

async fn compile(component: impl Into<bytes::Bytes>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), compiler());
    match runtime.compile(component.into()).await {
        Ok(_) => Ok(()),
        Err(RuntimeError::Refused(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A component that imports and exports empty instances of these names.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let imports = imports.iter().map(|name| format!("(import \"{name}\" (instance))"));
    let exports = exports.iter().map(|name| format!("(export \"{name}\" (instance $nothing))"));
    let parts: Vec<String> =
        imports.chain(["(instance $nothing)".to_owned()]).chain(exports).collect();
    wat(&format!("(component {})", parts.join("\n")))
}

const LIFECYCLE: &str = "weir:module/lifecycle@0.1.0";
const PROCESSOR: &str = "weir:module/processor@0.1.0";

#[tokio::test]
async fn what_is_no_component_is_refused_with_what_it_is() {
    let cases = [
        (b"garbage".to_vec(), "no WebAssembly component"),
        (Vec::new(), "no WebAssembly component"),
        (wat("(module)"), "core module"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), "precompiled"),
    ];
    for (bytes, words) in cases {
        let why = compile(bytes).await.unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn the_hubs_own_compiled_code_is_not_taken_back_as_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), compiler());
    runtime.compile(guests::guest("demo-v1")).await.unwrap();
    let code = fs::read(code_file(dir.path())).unwrap();
    let elf = code.windows(4).position(|four| four == b"\x7fELF").unwrap();
    for upload in [code.clone(), code[elf..].to_vec()] {
        assert!(compile(upload).await.is_err());
    }
}

#[tokio::test]
async fn imports_that_are_not_offered_are_refused_by_name() {
    let exports = [LIFECYCLE, PROCESSOR];
    for (import, words) in [
        ("wasi:sockets/tcp@0.2.3", "modules get no network"),
        ("wasi:http/outgoing-handler@0.2.0", "modules get no network"),
        ("acme:secrets/vault@1.0.0", "does not offer"),
        ("weir:module/hub@0.9.0", "this hub offers 0.1.0"),
        ("wasi:filesystem/types@0.3.0", "does not offer"),
    ] {
        let why = compile(component(&[import], &exports)).await.unwrap_err();
        assert!(why.contains(words), "{why}");
        let interface = import.split_once('@').unwrap().0.rsplit('/').next().unwrap();
        assert!(why.contains(interface), "{why}");
    }
}

#[tokio::test]
async fn an_import_of_the_right_name_and_another_shape_is_refused() {
    let text = format!(
        r#"(component
            (import "weir:module/hub@0.1.0" (instance (export "erase-everything" (func))))
            (instance $nothing)
            (export "{LIFECYCLE}" (instance $nothing))
            (export "{PROCESSOR}" (instance $nothing)))"#
    );
    let why = compile(wat(&text)).await.unwrap_err();
    assert!(why.contains("erase-everything"), "{why}");
}

#[tokio::test]
async fn exports_that_are_not_supported_yet_are_refused_by_name() {
    for name in ["timer-handler", "migration"] {
        let export = format!("weir:module/{name}@0.1.0");
        let why = compile(component(&[], &[LIFECYCLE, PROCESSOR, &export])).await.unwrap_err();
        assert_eq!(why, format!("it exports {export}, which is not supported yet"));
    }
    let packed = "weir:module/packed-processor@0.1.0";
    let why = compile(component(&[], &[LIFECYCLE, packed])).await.unwrap_err();
    assert!(why.contains("packed-processor") && why.contains("not supported yet"), "{why}");
    let why = compile(component(&[], &[PROCESSOR])).await.unwrap_err();
    assert_eq!(why, format!("it does not export {LIFECYCLE}"));
}

#[tokio::test]
async fn exports_of_another_shape_do_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), compiler());
    let module = Module::new(component(&[], &[LIFECYCLE, PROCESSOR]).into());
    let error = module.try_start(&runtime).await.err().unwrap();
    assert!(matches!(error, RuntimeError::Refused(_) | RuntimeError::Init(_)), "{error:?}");
}

#[tokio::test]
async fn a_component_that_is_composed_of_others_is_taken() {
    // Passing a text between two memories makes the engine write glue; JavaScript guests need that.
    let text = format!(
        r#"(component
            (component $greeter
                (core module $code
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
                    (func (export "greet") (param i32 i32)))
                (core instance $code (instantiate $code))
                (func (export "greet") (param "name" string) (canon lift
                    (core func $code "greet")
                    (memory $code "memory") (realloc (func $code "realloc")))))
            (component $caller
                (import "greet" (func $greet (param "name" string)))
                (core module $memory (memory (export "memory") 1))
                (core instance $memory (instantiate $memory))
                (core func $greet (canon lower (func $greet) (memory $memory "memory")))
                (core module $code (import "" "greet" (func (param i32 i32))))
                (core instance (instantiate $code
                    (with "" (instance (export "greet" (func $greet)))))))
            (instance $greeter (instantiate $greeter))
            (instance (instantiate $caller (with "greet" (func $greeter "greet"))))
            (instance $nothing)
            (export "{LIFECYCLE}" (instance $nothing))
            (export "{PROCESSOR}" (instance $nothing)))"#
    );
    assert_eq!(compile(wat(&text)).await, Ok(()));
}

#[tokio::test]
async fn a_damaged_component_is_refused_wherever_it_is_damaged() {
    let whole = guests::guest("demo-v1");
    for at in (9..whole.len()).step_by(whole.len() / 12) {
        let cut = whole[..at].to_vec();
        assert!(compile(cut).await.is_err(), "cut at {at}");
    }
}

#[tokio::test]
async fn a_component_over_the_ceiling_is_refused_before_it_is_looked_at() {
    let why = compile(vec![0; (16 << 20) + 1]).await.unwrap_err();
    assert!(why.contains("16Mi"), "{why}");
}

#[tokio::test]
async fn the_facts_name_imports_and_exports() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), compiler());
    let bytes = guests::guest("filter");
    let facts = runtime.compile(bytes.clone()).await.unwrap();
    assert_eq!(facts.bytes, bytes.len() as u64);
    assert!(facts.exports.iter().any(|export| export == PROCESSOR), "{facts:?}");
    assert_eq!(runtime.compile(bytes).await.unwrap(), facts);
}

#[tokio::test]
async fn the_child_limits_itself_before_it_reads() {
    let mut child = Command::new(compiler().program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = PathBuf::from(format!("/proc/{}/limits", child.id()));
    let is_set = || {
        let text = fs::read_to_string(&limits).unwrap();
        let line = |name: &str, value: &str| {
            text.lines().any(|line| line.starts_with(name) && line.contains(value))
        };
        line("Max address space", "1073741824")
            && line("Max cpu time", "30")
            && line("Max file size", "0")
    };
    let waiting = async {
        while !is_set() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

fn shell(script: &str) -> Compiler {
    Compiler { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

async fn compile_with(script: &str) -> RuntimeError {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), shell(script));
    runtime.compile(guests::guest("demo-v1")).await.unwrap_err()
}

#[tokio::test]
async fn whatever_becomes_of_the_child_the_hub_says_it_in_words() {
    for (script, words) in [
        ("exit 1", "exit code 1"),
        ("echo boom >&2; exit 1", "boom"),
        ("kill -XCPU $$", "30 s of processor time"),
        ("kill -ABRT $$", "1024 MiB of memory"),
        ("echo nonsense", "cut off"),
        ("head -c 100000 /dev/zero >&2; exit 1", "exit code 1"),
    ] {
        let error = compile_with(script).await;
        assert!(matches!(&error, RuntimeError::Compile(why) if why.contains(words)), "{error}");
    }
}

#[tokio::test]
async fn the_child_has_no_environment() {
    let error = compile_with("env >&2; exit 3").await;
    let RuntimeError::Refused(variables) = &error else { panic!("{error}") };
    for name in ["HOME=", "PATH=", "CARGO", "USER="] {
        assert!(!variables.contains(name), "{variables}");
    }
}

fn code_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "cwasm")).unwrap()
}

#[tokio::test]
async fn cached_code_is_used_without_a_compiler_and_made_anew_when_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let module = Module::broken(json!({}));
    module.try_start(&runtime_in(dir.path(), compiler())).await.unwrap();

    let without = runtime_in(dir.path(), shell("exit 1"));
    let instance = module.try_start(&without).await.unwrap();
    assert!(deliver(&instance, plain(1)).await.is_ok());

    let path = code_file(dir.path());
    let mut code = fs::read(&path).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 0x40;
    fs::write(&path, &code).unwrap();
    let without = runtime_in(dir.path(), shell("exit 1"));
    assert!(matches!(module.start_compiled(&without).await, Err(RuntimeError::Compile(_))));
    let instance = module.start_compiled(&runtime_in(dir.path(), compiler())).await.unwrap();
    assert!(deliver(&instance, plain(1)).await.is_ok());
}

#[tokio::test]
async fn a_component_that_was_forgotten_or_never_seen_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime_in(dir.path(), compiler());
    let module = Module::broken(json!({}));
    let unknown = RuntimeError::Unknown(digest(&module.component));
    assert_eq!(module.start_compiled(&runtime).await.err(), Some(unknown.clone()));
    let running = module.try_start(&runtime).await.unwrap();
    runtime.forget(&digest(&module.component));
    assert_eq!(module.start_compiled(&runtime).await.err(), Some(unknown));
    assert!(deliver(&running, plain(1)).await.is_ok(), "what runs goes on");
}
