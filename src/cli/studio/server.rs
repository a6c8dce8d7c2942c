//! Connections, and their limits.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, oneshot};

use super::guard::Guard;
use super::routes::{Studio, router};
use crate::cli::failure::Failure;

/// The most connections at once. Others wait until one of them ends.
const CONNECTIONS: usize = 96;

/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(10);

/// The most bytes of a request before its body.
const HEADER_BYTES: usize = 32 << 10;

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// A server at work; it ends when this is dropped.
pub struct Serving {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Takes an address; any free port for 0.
    pub fn bind(address: IpAddr, port: u16) -> Result<Self, Failure> {
        let asked = SocketAddr::new(address, port);
        let failed = |error: std::io::Error| {
            Failure::usage(format!(
                "the page cannot be served at {asked}: {error}; choose another port"
            ))
        };
        let listener = TcpListener::bind(asked).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own.
    pub fn start(self, studio: Studio, guard: Guard) -> Result<Serving, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Pictures are decoded and encoded there.
            .max_blocking_threads(2)
            .build()
            .map_err(Failure::other)?;
        let (end, ended) = oneshot::channel();
        let serve = move || {
            let router = router(studio, guard);
            runtime.block_on(async {
                let accept = std::pin::pin!(accept(self.listener, router));
                futures_util::future::select(accept, ended).await;
            });
            // Pages that listen are not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("studio".to_string());
        Ok(Serving {
            end: Some(end),
            thread: Some(thread.spawn(serve).map_err(Failure::other)?),
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong is the client's.
            let _ = connection.await;
            drop(permit);
        });
    }
}
