//! Sockets and runtimes that the servers have in common.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

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

/// A single-threaded one.
pub(crate) fn single() -> Result<Runtime, Error> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// One single-threaded runtime on each of this many threads, and what they return.
pub(crate) fn per_core<F, T>(threads: usize, work: F) -> Result<Vec<T>, Error>
where
    F: Fn(usize, &Runtime) -> Result<T, Error> + Clone + Send + 'static,
    T: Send + 'static,
{
    let threads: Vec<JoinHandle<Result<T, Error>>> = (0..threads)
        .map(|number| {
            let work = work.clone();
            thread::spawn(move || work(number, &single()?))
        })
        .collect();
    let join = |thread: JoinHandle<Result<T, Error>>| {
        thread
            .join()
            .map_err(|_| Error::from("a worker panicked"))?
    };
    threads.into_iter().map(join).collect()
}

/// Serves connections on single-threaded runtimes, each of which gets the next one in turn: none has
/// more to do than the others.
pub(crate) fn in_turn<F, S>(listener: TcpListener, threads: usize, serve: F) -> Result<(), Error>
where
    F: Fn(TcpStream) -> S + Clone + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let mut hands = Vec::new();
    for _ in 0..threads {
        let (hand, mut taken) = mpsc::unbounded_channel::<std::net::TcpStream>();
        hands.push(hand);
        let serve = serve.clone();
        thread::spawn(move || -> Result<(), Error> {
            single()?.block_on(async {
                while let Some(stream) = taken.recv().await {
                    tokio::spawn(serve(TcpStream::from_std(stream)?));
                }
                Ok(())
            })
        });
    }
    single()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        for hand in hands.iter().cycle() {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            hand.send(stream.into_std()?)
                .map_err(|_| "a worker ended")?;
        }
        Ok(())
    })
}
