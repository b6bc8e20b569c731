//! The one engine: which WebAssembly is accepted and how it is compiled.
//!
//! The compiling child and the hub make the same engine; a difference would be caught by its tag.

use ring::digest::{Context, SHA256};
use std::hash::{Hash, Hasher};
use wasmtime::{Config, Engine, OptLevel, Result, Strategy};

/// Stack of a guest; deeper recursion traps.
pub(crate) const GUEST_STACK_BYTES: usize = 512 * 1024;

/// An engine with everything off that an ordinary guest does not need: what is off cannot have
/// a fault. Several memories stay on, because the engine's own glue between the parts of a composed
/// component (every QuickJS guest is one) is made of them.
pub(crate) fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_relaxed_simd(false)
        .shared_memory(false)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .memory_init_cow(true);
    Engine::new(&config)
}

/// Sixteen hexadecimal digits that differ when compiled code of one engine does not fit another:
/// engine version, target and settings.
pub(crate) fn tag(engine: &Engine) -> String {
    let mut hasher = Sha256(Context::new(&SHA256));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = hasher.0.finish();
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A hasher whose result is stable over versions of the standard library.
struct Sha256(Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // The digest is taken from the context itself.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_of_one_build_have_one_tag() {
        assert_eq!(tag(&engine().unwrap()), tag(&engine().unwrap()));
    }
}
