//! Looking at a component before anything is compiled: what it imports and exports, and whether the
//! hub can run it. Every refusal names the thing that is refused.

use wasmparser::{Encoding, Parser, Payload};
use weir_core::port::ComponentFacts;

/// Version of `weir:module` that is offered.
const OFFERED: &str = "0.1.0";

const WEIR: &[&str] = &["types", "hub", "twin", "state", "telemetry", "timers", "calls"];

const WASI: &[&str] = &[
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "filesystem/types",
    "filesystem/preopens",
];

/// Exports that a later version will call; running a module without them would be half a module.
const NOT_YET: &[&str] = &["timer-handler", "migration"];

/// What the component imports and exports, when the hub can run it.
///
/// # Errors
/// Why not, in a sentence.
pub(crate) fn inspect(bytes: &[u8]) -> Result<ComponentFacts, String> {
    check_form(bytes)?;
    let facts = read(bytes).map_err(|error| format!("the component is damaged: {error}"))?;
    for import in &facts.imports {
        check_import(import)?;
    }
    check_exports(&facts.exports)?;
    Ok(facts)
}

fn check_form(bytes: &[u8]) -> Result<(), String> {
    let what = if bytes.starts_with(b"\x7fELF") {
        "this is precompiled code; upload the component it was made from"
    } else if bytes.starts_with(b"\0asm") && Parser::is_component(bytes) {
        return Ok(());
    } else if Parser::is_core_wasm(bytes) {
        "this is a core module; make it a component, for example by building for wasm32-wasip2 or \
         with `wasm-tools component new`"
    } else if bytes.trim_ascii_start().starts_with(b"(") {
        "this is WebAssembly text; upload the binary form (`wasm-tools parse`)"
    } else {
        "this is no WebAssembly component"
    };
    Err(what.to_owned())
}

fn read(bytes: &[u8]) -> wasmparser::Result<ComponentFacts> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(ComponentFacts { imports, exports, bytes: bytes.len() as u64 })
}

fn check_import(import: &str) -> Result<(), String> {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(interface) = path.strip_prefix("weir:module/").filter(|name| WEIR.contains(name)) {
        return match version {
            OFFERED => Ok(()),
            _ => Err(format!(
                "it imports {interface} of weir:module {version}; this hub offers {OFFERED}"
            )),
        };
    }
    match path.strip_prefix("wasi:") {
        Some(name) if WASI.contains(&name) && version.starts_with("0.2.") => Ok(()),
        Some(name) if name.starts_with("sockets/") || name.starts_with("http/") => {
            Err(format!("it imports {import}; modules get no network"))
        }
        Some(_) | None => Err(format!("it imports {import}, which this hub does not offer")),
    }
}

fn check_exports(exports: &[String]) -> Result<(), String> {
    let exported = |name: &str| exports.iter().any(|export| *export == interface(name));
    if let Some(name) = NOT_YET.iter().find(|name| exported(name)) {
        return Err(format!("it exports {}, which is not supported yet", interface(name)));
    }
    if !exported("processor") && exported("packed-processor") {
        return Err(format!(
            "it exports {} only, which is not supported yet; export {} too",
            interface("packed-processor"),
            interface("processor")
        ));
    }
    match ["lifecycle", "processor"].iter().find(|name| !exported(name)) {
        Some(missing) => Err(format!("it does not export {}", interface(missing))),
        None => Ok(()),
    }
}

/// Full name of an interface of this version.
pub(crate) fn interface(name: &str) -> String {
    format!("weir:module/{name}@{OFFERED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_refused_with_what_it_is() {
        let cases: [(&[u8], &str); 5] = [
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\x7fELF\x02\x01\x01", "precompiled"),
            (b" (component)", "text"),
            (b"hello", "no WebAssembly"),
            (b"", "no WebAssembly"),
        ];
        for (bytes, word) in cases {
            let refusal = inspect(bytes).unwrap_err();
            assert!(refusal.contains(word), "{refusal}");
        }
    }

    #[test]
    fn imports_are_offered_by_name_and_version() {
        for import in ["weir:module/hub@0.1.0", "wasi:io/poll@0.2.3", "wasi:filesystem/types@0.2.6"]
        {
            assert_eq!(check_import(import), Ok(()));
        }
        for import in [
            "weir:module/hub@0.2.0",
            "wasi:io/poll@0.3.0",
            "wasi:sockets/tcp@0.2.3",
            "env",
            "weir:module/secrets@0.1.0",
        ] {
            assert!(check_import(import).is_err(), "{import}");
        }
    }
}
