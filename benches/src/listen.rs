//! Sockets and runtimes that the servers have in common.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, Runtime};

use crate::Error;

const BACKLOG: i32 = 4096;

/// A loopback listener; with `shared` others may bind the same port too.
pub(crate) fn bind(port: u16, shared: bool) -> Result<TcpListener, Error> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Tokio's work-stealing runtime with this many threads.
pub(crate) fn multi(threads: usize) -> Result<Runtime, Error> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    Ok(runtime)
}

/// One single-threaded runtime on each of this many threads; returns when one of them ends.
pub(crate) fn per_core<F>(threads: usize, work: F) -> Result<(), Error>
where
    F: Fn(&Runtime) -> Result<(), Error> + Clone + Send + 'static,
{
    let threads: Vec<JoinHandle<Result<(), Error>>> = (0..threads)
        .map(|_| {
            let work = work.clone();
            thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                work(&runtime)
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}
