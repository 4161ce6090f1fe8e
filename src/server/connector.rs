//! A byte stream to PostgreSQL: socket and, if wanted, TLS (manual, "SSL Session Encryption").

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::params::{ServerTls, TlsVerify, UpstreamParams};
use crate::net::tls::{TlsSetupError, client_config};
use crate::net::{Stream, UpstreamAddress, tune};

/// An SSLRequest packet: its length and `(1234 << 16) | 5679`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Opens connections to one upstream.
#[derive(Debug)]
pub struct Connector {
    address: UpstreamAddress,
    tls: Option<Tls>,
}

struct Tls {
    config: Arc<rustls::ClientConfig>,
    /// Without TLS, no connection.
    required: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Connector {
    /// Sets up TLS as configured.
    ///
    /// # Errors
    /// The authorities' file cannot be used.
    pub fn new(params: &UpstreamParams) -> Result<Self, TlsSetupError> {
        let tls = match &params.tls {
            ServerTls::Disable => None,
            ServerTls::Prefer => Some(Tls { config: client_config(None)?, required: false }),
            ServerTls::Require(TlsVerify::Nothing) => {
                Some(Tls { config: client_config(None)?, required: true })
            }
            ServerTls::Require(TlsVerify::Full { ca_file }) => {
                Some(Tls { config: client_config(Some(ca_file))?, required: true })
            }
        };
        Ok(Self { address: params.address.clone(), tls })
    }

    /// Connects and, if wanted, encrypts. The caller bounds the time.
    ///
    /// # Errors
    /// The server cannot be reached, or TLS is required and cannot be had.
    pub async fn connect(&self) -> io::Result<Stream> {
        match &self.address {
            // libpq does not encrypt over a Unix socket either.
            UpstreamAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            UpstreamAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                tune(&stream)?;
                match &self.tls {
                    Some(tls) => tls.encrypt(Stream::Tcp(stream), host).await,
                    None => Ok(Stream::Tcp(stream)),
                }
            }
        }
    }
}

impl Tls {
    async fn encrypt(&self, mut stream: Stream, host: &str) -> io::Result<Stream> {
        stream.write_all(&SSL_REQUEST).await?;
        match stream.read_u8().await? {
            b'S' => {}
            b'N' if !self.required => return Ok(stream),
            b'N' => return Err(io::Error::other("server does not support SSL, but SSL was required")),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected answer to SSLRequest")),
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}
