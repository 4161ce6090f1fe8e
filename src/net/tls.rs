//! TLS set-up on both sides (rustls). PostgreSQL manual, "Secure TCP/IP Connections with SSL".

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// TLS cannot be set up as configured.
#[derive(Debug)]
pub enum TlsSetupError {
    /// A file cannot be read, or holds no PEM of the kind that is wanted.
    File(PathBuf, String),
    /// Certificate and key do not fit, or rustls does not take them.
    Identity(rustls::Error),
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "cannot use {}: {why}", path.display()),
            Self::Identity(error) => write!(f, "cannot use the certificate and key: {error}"),
        }
    }
}

impl std::error::Error for TlsSetupError {}

/// For connections from clients.
///
/// # Errors
/// See [`TlsSetupError`].
pub fn server_config(cert_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let chain = certificates(cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| TlsSetupError::File(key_file.to_owned(), error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Identity)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsSetupError::Identity)?;
    Ok(Arc::new(config))
}

/// For connections to PostgreSQL. Without `ca_file` the certificate is not checked, as with libpq's `sslmode=require`.
///
/// # Errors
/// See [`TlsSetupError`].
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Identity)?;
    let config = match ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(TlsSetupError::Identity)?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider()))),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

/// When the first certificate of a chain expires, in seconds since 1970.
///
/// # Errors
/// See [`TlsSetupError`]; a certificate that cannot be read is none of them: its expiry is not known.
pub fn first_expiry(cert_file: &Path) -> Result<Option<f64>, TlsSetupError> {
    let expiry = |certificate: &CertificateDer<'_>| {
        let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(read.validity().not_after.timestamp() as f64)
    };
    Ok(certificates(cert_file)?.iter().filter_map(expiry).min_by(f64::total_cmp))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let failed = |why: String| TlsSetupError::File(path.to_owned(), why);
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?.collect();
    match chain.map_err(|error| failed(error.to_string()))? {
        chain if chain.is_empty() => Err(failed("no certificate in it".to_owned())),
        chain => Ok(chain),
    }
}

/// Takes any certificate: `prefer` and `require` protect against listeners only.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
