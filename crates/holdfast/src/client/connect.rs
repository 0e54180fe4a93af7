//! A connection to the gateway: TCP, and TLS where the address says so.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use holdfast_upstream::{Http2, SystemRoots, tls_config};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Error;
use super::base::Base;

/// How long the way to the gateway may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn open(
    base: &Base,
    ca_file: Option<&Path>,
) -> Result<SendRequest<Full<Bytes>>, Error> {
    let opening = async {
        let stream = TcpStream::connect((base.host.as_str(), base.port))
            .await
            .map_err(|error| format!("no connection to {}: {error}", base.authority))?;
        // Latency matters little here; where it can't be set, nothing is lost.
        let _ = stream.set_nodelay(true);
        if base.tls {
            speak(secure(base, ca_file, stream).await?).await
        } else {
            speak(stream).await
        }
    };
    let opened = timeout(PATIENCE, opening).await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(format!(
            "{} did not answer within {seconds} s",
            base.authority
        ))
    });
    opened.map_err(|why| Error::Unreachable {
        url: base.to_string(),
        why,
    })
}

async fn secure(
    base: &Base,
    ca_file: Option<&Path>,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, String> {
    let config = tls_config(&SystemRoots::load(), ca_file, Http2::Never)
        .map_err(|error| error.to_string())?;
    let name = ServerName::try_from(base.host.clone()).map_err(|error| error.to_string())?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS with {}: {error}", base.authority))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends with the response; what goes wrong in it is seen there.
    tokio::spawn(connection);
    Ok(sender)
}
