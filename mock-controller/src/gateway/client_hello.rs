//! The name a TLS client asks for, read from the first bytes it sends.
//!
//! Owns the wire format of the ClientHello (RFC 8446 section 4.1.2) inside TLSPlaintext records (section 5.1) and of the
//! server_name extension (RFC 6066 section 3). Knows nothing of flows, segments or policy.
//!
//! The answer depends on the bytes alone, never on how they were cut: once a prefix is a ClientHello or malformed, every
//! longer input gives the same answer. What a conforming server must refuse is malformed here, because a name that two
//! parsers read differently is a way around the policy.

use std::borrow::Cow;

use super::first_bytes::readable;

/// Longest ClientHello that is read. Post-quantum key shares need about 1.8 KiB; past this bound bytes are malformed.
pub const MAX_HELLO: usize = 32 * 1024;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const CONTENT_TYPE_HANDSHAKE: u8 = 22;
const MAX_FRAGMENT: usize = 1 << 14;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse {
    /// A ClientHello so far: more bytes are needed.
    Incomplete,
    /// A whole ClientHello; what follows it was not looked at.
    ClientHello(ClientHello),
    /// Not a ClientHello, and no further byte can make it one.
    Malformed,
}

/// The part of a ClientHello that a policy decides on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The host_name of the server_name extension, as sent; bytes that are not printable ASCII are escaped. `None` when
    /// the client names no host.
    pub sni: Option<String>,
}

/// Reads the ClientHello at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parse {
    match handshake(bytes).and_then(|message| client_hello(&message)) {
        Ok(hello) => Parse::ClientHello(hello),
        Err(Stop::Incomplete) => Parse::Incomplete,
        Err(Stop::Malformed) => Parse::Malformed,
    }
}

/// Whether the first handshake message is spread over several records.
pub(super) fn is_spread(bytes: &[u8]) -> bool {
    let Ok((first, Some(_))) = fragment(bytes) else {
        return false;
    };
    match message_length(first) {
        Ok(Some(length)) => first.len() < HANDSHAKE_HEADER + length,
        Ok(None) => true,
        Err(_) => false,
    }
}

#[derive(Clone, Copy)]
enum Stop {
    Incomplete,
    Malformed,
}

/// The body of the first handshake message, put together from as many records as it was spread over.
fn handshake(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Stop> {
    let mut rest = bytes;
    let (first, tail) = fragment(rest)?;
    if let Some(length) = message_length(first)?
        && let Some(body) = first.get(HANDSHAKE_HEADER..HANDSHAKE_HEADER + length)
    {
        return Ok(Cow::Borrowed(body));
    }
    let mut message = Vec::new();
    message.extend_from_slice(first);
    rest = tail.ok_or(Stop::Incomplete)?;
    loop {
        let (next, tail) = fragment(rest)?;
        message.extend_from_slice(next);
        if let Some(length) = message_length(&message)? {
            let end = HANDSHAKE_HEADER + length;
            if message.len() >= end {
                message.truncate(end);
                message.drain(..HANDSHAKE_HEADER);
                return Ok(Cow::Owned(message));
            }
        }
        rest = tail.ok_or(Stop::Incomplete)?;
    }
}

/// The available part of the record at the start of `bytes`, and what follows the record when all of it is there.
fn fragment(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), Stop> {
    match bytes.first() {
        None => return Err(Stop::Incomplete),
        Some(&CONTENT_TYPE_HANDSHAKE) => {}
        Some(_) => return Err(Stop::Malformed),
    }
    // legacy_record_version must be ignored for all purposes (RFC 8446 section 5.1).
    let &[_, _, _, high, low] = bytes.get(..RECORD_HEADER).ok_or(Stop::Incomplete)? else {
        return Err(Stop::Incomplete);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Handshake fragments of length zero must not be sent, nor longer ones than 2^14 (RFC 8446 section 5.1).
    if length == 0 || length > MAX_FRAGMENT {
        return Err(Stop::Malformed);
    }
    let rest = &bytes[RECORD_HEADER..];
    match rest.split_at_checked(length) {
        Some((fragment, tail)) => Ok((fragment, Some(tail))),
        None => Ok((rest, None)),
    }
}

/// Length of the message body, once its header is there.
fn message_length(message: &[u8]) -> Result<Option<usize>, Stop> {
    match message {
        [] => Ok(None),
        [kind, ..] if *kind != HANDSHAKE_CLIENT_HELLO => Err(Stop::Malformed),
        [_, a, b, c, ..] => {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_HELLO {
                return Err(Stop::Malformed);
            }
            Ok(Some(length))
        }
        _ => Ok(None),
    }
}

/// RFC 8446 section 4.1.2. Cipher suites, versions and extensions other than server_name are skipped unread, which is
/// what GREASE (RFC 8701) asks of every reader.
fn client_hello(body: &[u8]) -> Result<ClientHello, Stop> {
    let mut body = Reader(body);
    body.take(2)?; // legacy_version
    body.take(32)?; // random
    if body.vector8()?.0.len() > 32 {
        return Err(Stop::Malformed); // legacy_session_id<0..32>
    }
    let cipher_suites = body.vector16()?.0.len();
    if cipher_suites < 2 || cipher_suites % 2 != 0 {
        return Err(Stop::Malformed);
    }
    if body.vector8()?.0.is_empty() {
        return Err(Stop::Malformed); // legacy_compression_methods<1..2^8-1>
    }
    if body.0.is_empty() {
        return Ok(ClientHello { sni: None }); // TLS 1.2 and older: extensions are optional.
    }
    let mut extensions = body.vector16()?;
    if !body.0.is_empty() {
        return Err(Stop::Malformed);
    }
    let mut server_name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if kind != EXTENSION_SERVER_NAME {
            continue;
        }
        // There must not be more than one extension of the same type (RFC 8446 section 4.2).
        if server_name.is_some() {
            return Err(Stop::Malformed);
        }
        server_name = Some(host_name(data)?);
    }
    Ok(ClientHello {
        sni: server_name.flatten(),
    })
}

/// The ServerNameList of RFC 6066 section 3. Names of unknown types carry a 16-bit length, as the section promises.
fn host_name(mut extension: Reader<'_>) -> Result<Option<String>, Stop> {
    let mut list = extension.vector16()?;
    if list.0.is_empty() || !extension.0.is_empty() {
        return Err(Stop::Malformed);
    }
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?.0;
        if kind != NAME_TYPE_HOST_NAME {
            continue;
        }
        // One name per type, at least one byte long (RFC 6066 section 3). Whether it is a host name, the policy says.
        if found.is_some() || name.is_empty() {
            return Err(Stop::Malformed);
        }
        found = Some(readable(name));
    }
    Ok(found)
}

/// A cursor over a message that is complete: running out of bytes means that its lengths lie.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Stop::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<Self, Stop> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    fn vector16(&mut self) -> Result<Self, Stop> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }
}

#[cfg(test)]
mod tests;
