//! A target's connections for other clients of the protocol, such as tokio-postgres where a full client is wanted.

use super::stream::{Opened, Stream};
use super::target::Target;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

impl Target {
    /// Opens a connection to the first address that can be reached, encrypted as the DSN says. Nobody is logged in yet.
    ///
    /// # Errors
    /// No address can be reached: why the last one could not; or there is no agreement on TLS.
    ///
    /// Cancel safety: dropped midway, the connection is closed.
    pub async fn open(&self) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        let parts = self.parts();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in parts.addresses(false).await.map_err(io::Error::other)? {
            let stream = match Stream::connect(address).await {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match stream.secured(&parts.encryption, address).await.map_err(io::Error::other)? {
                Opened::Ready(stream) => return Ok(stream),
                Opened::Refused(_) => {
                    return Err(io::Error::other("the server answers SSLRequest with an error"));
                }
            }
        }
        Err(last)
    }
}
