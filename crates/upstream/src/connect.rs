//! Where a vendor is and how it is reached: address, TLS, protocol.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Whether HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Http2 {
    /// Where the server chooses it (ALPN over TLS).
    #[default]
    Auto,
    Never,
    /// Always, without asking; also in the clear.
    PriorKnowledge,
}

/// A vendor's address and the limits on connections to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// `Some` = TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub http2: Http2,
    /// Idle HTTP/1.1 connections kept by each worker.
    pub max_idle: usize,
    /// Streams on one HTTP/2 connection before another one is opened.
    pub streams_per_connection: usize,
    /// HTTP/2 connections that each worker opens at the most; beyond, streams share them.
    pub max_connections: usize,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no usable certificate in `{path}`")]
    Certificates { path: String },
    #[error("cannot read `{path}`")]
    File {
        path: String,
        source: rustls::pki_types::pem::Error,
    },
    #[error("the system has no root certificates: install `ca-certificates`")]
    NoRoots,
    #[error("tls")]
    Rustls(#[from] rustls::Error),
}

/// The certificates that the system trusts: many files, read once for all vendors.
#[derive(Clone, Debug)]
pub struct SystemRoots(RootCertStore);

impl SystemRoots {
    pub fn load() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self(roots)
    }
}

/// A client configuration that trusts the system's roots and those in `ca_file`.
pub fn tls_config(
    system: &SystemRoots,
    ca_file: Option<&Path>,
    http2: Http2,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = system.0.clone();
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match http2 {
        Http2::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Http2::Never => vec![b"http/1.1".to_vec()],
        Http2::PriorKnowledge => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let shown = path.display().to_string();
    let mut added = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|source| TlsError::File {
        path: shown.clone(),
        source,
    })? {
        let certificate = certificate.map_err(|source| TlsError::File {
            path: shown.clone(),
            source,
        })?;
        roots.add(certificate)?;
        added += 1;
    }
    if added == 0 {
        Err(TlsError::Certificates { path: shown })
    } else {
        Ok(())
    }
}

impl Endpoint {
    pub(crate) fn server_name(&self) -> io::Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).map_err(io::Error::other)
    }
}
