//! `/v2.5/api/<path>`: objects as JSON, `Authorization: cid <CID>`.

use std::time::Instant;

use hyper::{Request, Response, body::Bytes};

use super::{Api, not_implemented};

/// `path` is what follows `/v2.5/api/`, still percent-encoded.
pub(super) fn handle(
    _api: &Api,
    request: &Request<Bytes>,
    _path: &str,
    _now: Instant,
) -> Response<Bytes> {
    not_implemented(request.method().as_str(), request.uri().path())
}
