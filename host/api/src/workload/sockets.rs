//! One Unix socket for each module of the edge device, made and removed with its identity.
//!
//! The system says who is on the other side (`SO_PEERCRED`); nobody else is served. A module whose
//! container the hub runs is known by its process ([`SocketOptions::is_of_module`]); where there is no
//! container, the hub's own user, root, and the users that the operator names may be any module.

use super::{ACCEPT_PAUSE, Scope, Workload, serve};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use weir_core::id::ModuleId;
use weir_core::identity::Authentication;
use weir_core::limits;
use weir_hub::tasks::{Stop, TaskKind};

/// Says whether a process belongs to the container of a module; none: it has no container.
type IsOfModule = Arc<dyn Fn(&ModuleId, i32) -> Option<bool> + Send + Sync>;

/// Where the sockets are, and for whom.
#[derive(Clone)]
pub struct SocketOptions {
    /// Their folder.
    pub folder: PathBuf,
    /// Mode of a socket, such as `0o666`: the system's own gate, before that of the credentials.
    pub mode: u32,
    /// Users whose processes may be any module that has no container, besides root and the next.
    pub users: Vec<u32>,
    /// The hub's own user.
    pub own_user: u32,
    /// Asked first, when the system knows the process.
    pub is_of_module: IsOfModule,
}

impl SocketOptions {
    fn may_be(&self, module: &ModuleId, user: u32, process: Option<i32>) -> bool {
        match process.and_then(|process| (self.is_of_module)(module, process)) {
            Some(is_of_module) => is_of_module,
            None => user == 0 || user == self.own_user || self.users.contains(&user),
        }
    }
}

/// Where a module's socket is. Letters, digits, `-`, `.` and `_` stay; any other character becomes `=`
/// and two hexadecimal digits: a percent sign would be decoded by some who read the path as a URI.
#[must_use]
pub fn socket_path(folder: &Path, module: &ModuleId) -> PathBuf {
    let mut name = String::new();
    for byte in module.as_str().bytes() {
        match byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("={byte:02X}")),
        }
    }
    folder.join(format!("{name}.sock"))
}

impl Workload {
    /// Keeps a socket for every module that there is until the hub drains. What an earlier hub has left
    /// in the folder is removed first.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn keep_sockets(&self, options: SocketOptions) -> io::Result<()> {
        let folder = &options.folder;
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_socket() {
                std::fs::remove_file(entry.path())?;
            }
        }
        let sockets =
            Sockets { workload: self.clone(), options: Arc::new(options), open: BTreeMap::new() };
        let tasks = self.hub().tasks();
        tasks.spawn(TaskKind::Essential, "workload sockets", move |stop| sockets.keep(stop));
        Ok(())
    }
}

struct Sockets {
    workload: Workload,
    options: Arc<SocketOptions>,
    open: BTreeMap<ModuleId, Stop>,
}

impl Sockets {
    async fn keep(mut self, stop: Stop) {
        let mut changes = self.workload.hub().identities().changes();
        loop {
            changes.borrow_and_update();
            self.follow(&stop);
            tokio::select! {
                () = stop.draining() => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        for module in std::mem::take(&mut self.open).into_keys() {
            self.remove(&module);
        }
    }

    fn follow(&mut self, stop: &Stop) {
        let hub = self.workload.hub();
        let modules = hub.identities().modules(hub.edge_device(), None, usize::MAX);
        let with_credentials =
            modules.iter().filter(|found| found.record.authentication != Authentication::None);
        let wanted: Vec<ModuleId> =
            with_credentials.filter_map(|found| found.record.identity.module.clone()).collect();
        let gone: Vec<ModuleId> =
            self.open.keys().filter(|module| !wanted.contains(module)).cloned().collect();
        for module in gone {
            if let Some(stop) = self.open.remove(&module) {
                stop.drain();
            }
            self.remove(&module);
        }
        for module in wanted {
            if !self.open.contains_key(&module) {
                self.open(&module, stop);
            }
        }
    }

    fn open(&mut self, module: &ModuleId, stop: &Stop) {
        let path = socket_path(&self.options.folder, module);
        let bound = bind(&path, self.options.mode);
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => {
                return warn!(%error, %module, "the workload socket could not be made");
            }
        };
        let own = stop.child();
        self.open.insert(module.clone(), own.clone());
        let socket = Socket {
            workload: self.workload.clone(),
            options: Arc::clone(&self.options),
            module: module.clone(),
        };
        let tasks = self.workload.hub().tasks();
        tasks.spawn(TaskKind::PerClient, "workload socket", move |_| async move {
            tokio::select! {
                () = own.draining() => {}
                () = socket.accept(listener, &own) => {}
            }
        });
    }

    fn remove(&self, module: &ModuleId) {
        let path = socket_path(&self.options.folder, module);
        if let Err(error) = std::fs::remove_file(path) {
            debug!(%error, %module, "the workload socket could not be removed");
        }
    }
}

fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Err(cause) = std::fs::remove_file(path)
        && cause.kind() != io::ErrorKind::NotFound
    {
        return Err(cause);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The socket of one module.
struct Socket {
    workload: Workload,
    options: Arc<SocketOptions>,
    module: ModuleId,
}

impl Socket {
    async fn accept(&self, listener: UnixListener, stop: &Stop) {
        let places = Arc::new(Semaphore::new(limits::WORKLOAD_REQUESTS));
        let router = self.workload.router(Scope::One(self.module.clone()));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, module = %self.module, "a workload connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !self.is_allowed(&stream) {
                continue;
            }
            // A connection serves one request at a time.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                debug!(module = %self.module, "too many workload requests at once, one is closed");
                continue;
            };
            let (router, stop) = (router.clone(), stop.clone());
            let tasks = self.workload.hub().tasks();
            tasks.spawn(TaskKind::PerClient, "workload", move |_| async move {
                let _place = place;
                serve(stream, router, &stop).await;
            });
        }
    }

    fn is_allowed(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = stream.peer_cred() else { return false };
        let allowed = self.options.may_be(&self.module, peer.uid(), peer.pid());
        if !allowed {
            let (user, process) = (peer.uid(), peer.pid());
            warn!(module = %self.module, user, ?process, "a process may not use this workload socket");
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets_are_safe_and_never_the_same() {
        let path = |name: &str| {
            let path = socket_path(Path::new("/f"), &name.parse().unwrap());
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(path("sender"), "/f/sender.sock");
        assert_eq!(path("$edgeHub"), "/f/=24edgeHub.sock");
        assert_eq!(path("a=24"), "/f/a=3D24.sock");
        assert_eq!(path("100%"), "/f/100=25.sock");
        assert_eq!(path(".."), "/f/...sock");
    }

    #[test]
    fn a_process_is_known_by_its_container_or_else_by_its_user() {
        let with = |answer: Option<bool>| SocketOptions {
            folder: PathBuf::new(),
            mode: 0o666,
            users: vec![1000],
            own_user: 999,
            is_of_module: Arc::new(move |_, _| answer),
        };
        let module = "m".parse().unwrap();
        assert!(with(None).may_be(&module, 0, Some(7)));
        assert!(with(None).may_be(&module, 999, Some(7)));
        assert!(with(None).may_be(&module, 1000, Some(7)));
        assert!(!with(None).may_be(&module, 1001, Some(7)));
        assert!(with(Some(true)).may_be(&module, 1001, Some(7)));
        assert!(!with(Some(false)).may_be(&module, 0, Some(7)), "another module's container");
        assert!(
            with(Some(false)).may_be(&module, 0, None),
            "the system does not say which process"
        );
    }
}
