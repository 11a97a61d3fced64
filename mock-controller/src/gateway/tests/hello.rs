//! ClientHellos: real ones, and ones that no library sends.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName,
    version::TLS13,
};

/// What a real client sends first.
pub(crate) fn rustls(name: Option<&str>) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    let server = ServerName::try_from(name.unwrap_or("unnamed.example").to_owned()).unwrap();
    let mut bytes = Vec::new();
    let mut connection = ClientConnection::new(Arc::new(config), server).unwrap();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// A ClientHello under construction.
#[derive(Clone)]
pub(crate) struct Hello {
    extensions: Option<Vec<u8>>,
    trailing: Vec<u8>,
}

impl Hello {
    pub(crate) fn bare() -> Self {
        Self {
            extensions: None,
            trailing: Vec::new(),
        }
    }

    pub(crate) fn with_extension(kind: u16, data: &[u8]) -> Self {
        Self::bare().extension(kind, data)
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut entry = vec![0];
        entry.extend(vector16(name.as_bytes()));
        Self::with_extension(0, &vector16(&entry))
    }

    pub(crate) fn extension(mut self, kind: u16, data: &[u8]) -> Self {
        let extensions = self.extensions.get_or_insert_default();
        extensions.extend(kind.to_be_bytes());
        extensions.extend(vector16(data));
        self
    }

    pub(crate) fn trailing(mut self, bytes: &[u8]) -> Self {
        self.trailing.extend(bytes);
        self
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.extend([32].into_iter().chain([0xa5; 32]));
        body.extend(vector16(&[0x1a, 0x1a, 0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(self.extensions.iter().flat_map(|bytes| vector16(bytes)));
        body.extend(&self.trailing);
        let mut message = (body.len() as u32).to_be_bytes().to_vec();
        message[0] = 1;
        message.extend(body);
        message
    }

    /// The message in one record.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        records(&self.message(), 16_384)
    }
}

pub(crate) fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A handshake message, spread over records of at most `fragment` bytes.
pub(crate) fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    message
        .chunks(fragment)
        .flat_map(|chunk| [&[22, 3, 1], vector16(chunk).as_slice()].concat())
        .collect()
}
