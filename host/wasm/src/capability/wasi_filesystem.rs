//! WASI `filesystem` without a file: there is no preopened folder, so a guest never gets a
//! descriptor and can call none of its methods. The methods are linked by name only, because
//! runtimes import them all; one that is called nevertheless ends the call.

use crate::guest::{Guest, contract};
use wasmtime::Result;
use wasmtime::component::{Linker, ResourceType, Val};

const TYPES: &str = "wasi:filesystem/types@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

struct Descriptor;
struct DirectoryEntries;

const METHODS: &[&str] = &[
    "[method]descriptor.read-via-stream",
    "[method]descriptor.write-via-stream",
    "[method]descriptor.append-via-stream",
    "[method]descriptor.advise",
    "[method]descriptor.sync-data",
    "[method]descriptor.get-flags",
    "[method]descriptor.get-type",
    "[method]descriptor.set-size",
    "[method]descriptor.set-times",
    "[method]descriptor.read",
    "[method]descriptor.write",
    "[method]descriptor.read-directory",
    "[method]descriptor.sync",
    "[method]descriptor.create-directory-at",
    "[method]descriptor.stat",
    "[method]descriptor.stat-at",
    "[method]descriptor.set-times-at",
    "[method]descriptor.link-at",
    "[method]descriptor.open-at",
    "[method]descriptor.readlink-at",
    "[method]descriptor.remove-directory-at",
    "[method]descriptor.rename-at",
    "[method]descriptor.symlink-at",
    "[method]descriptor.unlink-file-at",
    "[method]descriptor.is-same-object",
    "[method]descriptor.metadata-hash",
    "[method]descriptor.metadata-hash-at",
    "[method]directory-entry-stream.read-directory-entry",
];

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.resource("descriptor", ResourceType::host::<Descriptor>(), |_, _| Ok(()))?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<DirectoryEntries>(),
        |_, _| Ok(()),
    )?;
    for method in METHODS {
        types.func_new(method, |_, _, _, _| Err(contract("it used a file, and there are none")))?;
    }
    types.func_new("filesystem-error-code", |mut store, _, _, results| {
        store.data_mut().enter()?;
        results[0] = Val::Option(None);
        Ok(())
    })?;
    linker.instance(PREOPENS)?.func_new("get-directories", |mut store, _, _, results| {
        store.data_mut().enter()?;
        results[0] = Val::List(Vec::new());
        Ok(())
    })?;
    Ok(())
}
