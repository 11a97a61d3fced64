//! TLS by the certificates of a profile: none, a CA, or all three (`reference/aviatrix-controller-api.md` section 6.1).

use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::store::syslog::RemoteSyslog;

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "its profile asks for TLS and has no CA certificate to know the server by: upload ca_certificate"
    )]
    NoAuthority,
    #[error("its {part} holds no PEM {expected}: upload it again")]
    Empty {
        part: &'static str,
        expected: &'static str,
    },
    #[error("its {part} cannot be read as PEM: {source}")]
    Pem {
        part: &'static str,
        source: pem::Error,
    },
    #[error(
        "its profile has a client certificate without a private key, or a key without a certificate: upload both"
    )]
    HalfIdentity,
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
    #[error("its certificates do not fit: {0}")]
    Certificates(#[from] rustls::Error),
}

/// A client that trusts the profile's CA alone, and shows its certificate where it has one.
pub(super) fn client_config(profile: &RemoteSyslog) -> Result<ClientConfig, Error> {
    let authority = profile.ca_certificate.as_ref().ok_or(Error::NoAuthority)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_certificate", authority)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match (&profile.public_certificate, &profile.private_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder.with_client_auth_cert(
            certificates("public_certificate", certificate)?,
            private_key(key)?,
        )?,
        _ => return Err(Error::HalfIdentity),
    })
}

fn certificates(part: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let parsed = parsed.map_err(|source| Error::Pem { part, source })?;
    if parsed.is_empty() {
        let expected = "certificate";
        return Err(Error::Empty { part, expected });
    }
    Ok(parsed)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let (part, expected) = ("private_key", "private key");
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| match source {
        pem::Error::NoItemsFound => Error::Empty { part, expected },
        source => Error::Pem { part, source },
    })
}
