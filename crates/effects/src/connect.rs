//! A connection to an address that was checked: looked up once, never a second time.
//!
//! A name that resolves to a public address when it is checked and to a private one when it is
//! connected to (DNS rebinding) finds no second look-up here. Everything that fails in this file
//! failed before a byte of the request left.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::forbidden;

/// For one of a host's addresses; the next one is tried afterwards.
const CONNECT: Duration = Duration::from_secs(5);
/// How many of a host's addresses are tried.
const ADDRESSES: usize = 8;

/// Addresses on their way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns host and port into addresses. Given to whoever connects, so that tests can answer.
pub type Resolve = Arc<dyn Fn(&str, u16) -> Resolving + Send + Sync>;

/// The system's own resolver.
pub fn system_resolver() -> Resolve {
    Arc::new(|host, port| {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await?;
            Ok(found.collect())
        })
    })
}

/// Where to, as far as a connection is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub host: &'a str,
    pub port: u16,
    pub allow_private: bool,
}

/// Why there is no connection. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{host}` can't be resolved: {source}")]
    Lookup { host: String, source: io::Error },
    #[error("`{host}` has no address")]
    NoAddress { host: String },
    #[error("`{host}` has the address {address}, which is {why}: see `allow_private`")]
    Forbidden {
        host: String,
        address: IpAddr,
        why: &'static str,
    },
    #[error("no connection to `{host}`: {source}")]
    Connect { host: String, source: io::Error },
    #[error("no TLS with `{host}`: {source}")]
    Tls { host: String, source: io::Error },
}

/// Any connection.
pub(crate) trait Stream:
    AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug
{
}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Stream for T {}

/// Connects to one of the host's addresses. A host of which any address is forbidden is refused whole:
/// which one would be taken is chance, or somebody's trick.
pub(crate) async fn tcp(place: Place<'_>, resolve: &Resolve) -> Result<TcpStream, Error> {
    let host = || place.host.to_owned();
    let lookup = resolve(place.host, place.port).await;
    let addresses = lookup.map_err(|source| Error::Lookup {
        host: host(),
        source,
    })?;
    check(place, &addresses)?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses.iter().take(ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests leave at once; where that can't be set they leave a little later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Error::Connect {
        host: host(),
        source: last,
    })
}

fn check(place: Place<'_>, addresses: &[SocketAddr]) -> Result<(), Error> {
    let host = || place.host.to_owned();
    if addresses.is_empty() {
        return Err(Error::NoAddress { host: host() });
    }
    if place.allow_private {
        return Ok(());
    }
    let found = addresses
        .iter()
        .find_map(|address| forbidden(address.ip()).map(|why| (address.ip(), why)));
    match found {
        Some((address, why)) => Err(Error::Forbidden {
            host: host(),
            address,
            why,
        }),
        None => Ok(()),
    }
}

/// TLS over a connection, for the configured host.
pub(crate) async fn tls<S: Stream + 'static>(
    stream: S,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Error> {
    let wrap = |source| Error::Tls {
        host: host.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(io::Error::other)
        .map_err(wrap)?;
    let connector = TlsConnector::from(config.clone());
    let stream = connector.connect(name, stream).await.map_err(wrap)?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forbidden_address_forbids_the_name() {
        let check = |addresses: &[&str], allow_private| {
            let place = Place {
                host: "name.example",
                port: 1,
                allow_private,
            };
            let addresses: Vec<SocketAddr> = addresses
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 1))
                .collect();
            check(place, &addresses).is_ok()
        };
        assert!(check(&["8.8.8.8", "2606:4700::1"], false));
        for private in ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"] {
            assert!(!check(&["8.8.8.8", private], false), "{private}");
            assert!(!check(&[private, "8.8.8.8"], false), "{private}");
            assert!(check(&[private], true), "{private}");
        }
        assert!(!check(&[], true));
    }
}
