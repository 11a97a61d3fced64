//! `/v1/api` and `/v2/api`: actions, with parameters in a query, a form, JSON or multipart (section 1.2).

use std::time::Instant;

use hyper::{Request, Response, body::Bytes};

use super::{Api, not_implemented};

pub(super) fn handle(_api: &Api, request: &Request<Bytes>, _now: Instant) -> Response<Bytes> {
    not_implemented(request.method().as_str(), request.uri().path())
}
