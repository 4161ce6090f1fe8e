//! TLS as libpq does it (its manual, "SSL Support"), and no session is resumed: a cold start has none.

use super::TargetError;
use super::dsn::Check;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_rustls::TlsConnector;

/// What a DSN wants of TLS. On Unix sockets there is none, as in libpq.
#[derive(Clone)]
pub(super) enum Encryption {
    /// `disable`.
    Never,
    /// `prefer`: if the server is willing.
    IfWilling(TlsConnector),
    /// `require` and the stricter ones.
    Always {
        /// With the checks that were asked for.
        connector: TlsConnector,
        /// `sslnegotiation=direct`: without an SSLRequest.
        direct: bool,
    },
}

impl Encryption {
    /// `root_file` makes `require` check the chain, too: so does libpq.
    pub fn new(
        mode: SslMode,
        negotiation: SslNegotiation,
        check: Option<Check>,
        root_file: Option<&str>,
    ) -> Result<Self, TargetError> {
        let direct = negotiation == SslNegotiation::Direct;
        match (mode, check, root_file) {
            (SslMode::Disable, ..) => Ok(Self::Never),
            (SslMode::Prefer, ..) if direct => {
                Err(TargetError::Dsn("sslnegotiation=direct needs sslmode=require or stricter".to_owned()))
            }
            (SslMode::Prefer, ..) => Ok(Self::IfWilling(connector(None, direct)?)),
            (_, Some(_), None) => {
                Err(TargetError::Dsn("sslmode=verify-ca and verify-full need sslrootcert=FILE".to_owned()))
            }
            (_, None, None) => Ok(Self::Always { connector: connector(None, direct)?, direct }),
            (_, check, Some(file)) => {
                let check = check.unwrap_or(Check::Chain);
                Ok(Self::Always { connector: connector(Some((check, file)), direct)?, direct })
            }
        }
    }
}

fn connector(check: Option<(Check, &str)>, direct: bool) -> Result<TlsConnector, TargetError> {
    let provider = Arc::new(ring::default_provider());
    let (chain, host) = match check {
        Some((check, file)) => (Some(verifier(file, &provider)?), check == Check::ChainAndHost),
        None => (None, false),
    };
    let verifier = Verifier { provider: Arc::clone(&provider), chain, host };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TargetError::Certificates(error.to_string()))?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

fn verifier(file: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TargetError> {
    let failed = |why: String| TargetError::Certificates(format!("cannot use sslrootcert={file}: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Checks as much as was asked for; signatures of the handshake always.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    host: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The chain is checked before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.host => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
