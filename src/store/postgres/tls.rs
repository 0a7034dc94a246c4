//! TLS to Postgres, as libpq's `sslmode` has it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is asked of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encryption {
    /// None (`disable`).
    Off,
    /// Where the server has it (`prefer`), or always (`require`); whoever the server is.
    Unverified,
    /// Always, with the certificate and its name checked (`verify-full`), by this file's
    /// certificates, or the system's.
    Verified(Option<PathBuf>),
}

/// A TLS that is set up and can't be.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootsError {
    /// The protocol versions or the file can't be used.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The file is no PEM file.
    #[error("sslrootcert: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// There is no certificate to trust.
    #[error("no root certificate was found: set sslrootcert=FILE")]
    None,
}

/// How a connection is encrypted.
pub(super) fn connector(roots: Option<&Encryption>) -> Result<MakeRustlsConnect, RootsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = match roots {
        Some(Encryption::Verified(file)) => {
            builder.with_root_certificates(self::roots(file.as_ref())?).with_no_client_auth()
        }
        Some(Encryption::Off | Encryption::Unverified) | None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(algorithms)))
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(file: Option<&PathBuf>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in CertificateDer::pem_file_iter(file)? {
                roots.add(certificate?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() { Err(RootsError::None) } else { Ok(roots) }
}

/// Takes any certificate, as `sslmode=require` does: against who listens, not against who pretends.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
