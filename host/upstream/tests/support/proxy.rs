//! A TCP proxy that can cut what goes through it.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Bytes from the client that still go through before each connection is cut; then the next
    /// number counts. 0 means no limit.
    cut_after: Arc<AtomicUsize>,
    pub(crate) cuts: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cut_after, cuts) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (limit, count) = (cut_after.clone(), cuts.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, target, limit, count) => {}
                }
            });
        });
        Self { address, cut_after, cuts, stop: Some(stop), thread: Some(thread) }
    }

    /// From now on a connection is cut when this many bytes of the client have gone through.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.cut_after.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve(
    listener: StdListener,
    target: SocketAddr,
    limit: Arc<AtomicUsize>,
    count: Arc<AtomicUsize>,
) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (limit, count) = (limit.clone(), count.clone());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            if pass(client, server, &limit).await {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

/// True when the connection was cut here.
async fn pass(client: TcpStream, server: TcpStream, limit: &AtomicUsize) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forth = async {
        let (mut block, mut passed) = ([0; 4096], 0);
        loop {
            let Some(read) = from_client.read(&mut block).await.ok().filter(|read| *read > 0)
            else {
                return false;
            };
            passed += read;
            let limit = limit.load(Ordering::SeqCst);
            if limit > 0 && passed >= limit {
                // Some of the last packet arrives, the rest does not.
                let part = &block[..read / 2];
                return to_server.write_all(part).await.is_ok();
            }
            if to_server.write_all(&block[..read]).await.is_err() {
                return false;
            }
        }
    };
    let back = async { copy(&mut from_server, &mut to_client).await };
    tokio::select! {
        cut = forth => cut,
        _ = back => false,
    }
}
