//! The parameters of an action, from wherever a client put them: query, form, JSON and multipart become one map
//! (`reference/aviatrix-controller-api.md` section 1.2).
//!
//! A body counts with every method, because `get_api_token` is a GET with one. Where a name comes twice, an empty value
//! gives way to another, since some encoders send a field under two tags; two values that differ are refused, because
//! taking either would be a guess. JSON numbers and booleans are taken as the text that forms would send.

use std::{borrow::Cow, collections::BTreeMap};

use hyper::{Request, body::Bytes, header::CONTENT_TYPE};
use serde_json::Value;

use super::multipart;

/// Distinct parameters of one call.
const MAX_PARAMETERS: usize = 1000;
/// Bytes of a parameter's name.
const MAX_NAME: usize = 256;

/// Why a request's parameters cannot be read. Texts are this fake's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error(
        "the content type `{0}` is none of application/x-www-form-urlencoded, application/json, multipart/form-data"
    )]
    ContentType(String),
    #[error("the request body is no JSON object: {0}")]
    Json(String),
    #[error("the request body is no multipart/form-data: {0}")]
    Multipart(#[from] multipart::Malformed),
    #[error("parameter `{0}` is not UTF-8 text")]
    NotText(String),
    #[error("parameter `{0}` has two values; send it once")]
    Ambiguous(String),
    #[error("a parameter's name is longer than {MAX_NAME} bytes")]
    LongName,
    #[error("there are more than {MAX_PARAMETERS} parameters")]
    TooMany,
}

/// One map for all encodings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(BTreeMap<String, Value>);

impl Parameters {
    pub(super) fn read(request: &Request<Bytes>) -> Result<Self, Malformed> {
        let mut parameters = Self::default();
        parameters.form(request.uri().query().unwrap_or_default().as_bytes())?;
        let body = request.body();
        let content_type = match request.headers().get(CONTENT_TYPE) {
            Some(value) => String::from_utf8_lossy(value.as_bytes()),
            // Without a content type the body says what it is: no form of this API begins with a brace.
            None if body.trim_ascii_start().starts_with(b"{") => Cow::from("application/json"),
            None => Cow::from("application/x-www-form-urlencoded"),
        };
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            _ if body.is_empty() => {}
            "application/x-www-form-urlencoded" => parameters.form(body)?,
            "application/json" => parameters.json(body)?,
            "multipart/form-data" => {
                for part in multipart::parse(&content_type, body)? {
                    let Ok(value) = std::str::from_utf8(part.value) else {
                        return Err(Malformed::NotText(part.name));
                    };
                    parameters.add(part.name, value.into())?;
                }
            }
            _ => return Err(Malformed::ContentType(kind.to_owned())),
        }
        Ok(parameters)
    }

    /// A text that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    /// The names of all parameters, in order.
    #[cfg(test)]
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn form(&mut self, encoded: &[u8]) -> Result<(), Malformed> {
        for pair in encoded.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let name = String::from_utf8_lossy(&percent_decoded(name)).into_owned();
            let Ok(value) = String::from_utf8(percent_decoded(value)) else {
                return Err(Malformed::NotText(name));
            };
            self.add(name, value.into())?;
        }
        Ok(())
    }

    fn json(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let object = match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(Malformed::Json("it is another JSON value".to_owned())),
            Err(error) => return Err(Malformed::Json(error.to_string())),
        };
        for (name, value) in object {
            let value = match value {
                Value::Null => continue,
                Value::Bool(_) | Value::Number(_) => value.to_string().into(),
                other => other,
            };
            self.add(name, value)?;
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: Value) -> Result<(), Malformed> {
        if name.len() > MAX_NAME {
            return Err(Malformed::LongName);
        }
        match self.0.get(&name) {
            Some(before) if *before == value || value == "" => Ok(()),
            Some(before) if *before != "" => Err(Malformed::Ambiguous(name)),
            None if self.0.len() >= MAX_PARAMETERS => Err(Malformed::TooMany),
            _ => {
                self.0.insert(name, value);
                Ok(())
            }
        }
    }
}

/// As the WHATWG URL standard decodes forms: `+` is a space, and a `%` that begins no escape is itself.
fn percent_decoded(encoded: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = encoded
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_encoding::percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    fn read(query: &str, content_type: &str, body: &[u8]) -> Result<Parameters, Malformed> {
        let mut request = Request::get(format!("/v2/api?{query}"));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        Parameters::read(&request.body(Bytes::copy_from_slice(body)).unwrap())
    }

    #[rstest]
    #[case::query("CID=c&action=list_accounts", "", "", &["CID", "action"])]
    #[case::form("", FORM, "CID=c&bundle_vpc_info.LAN.subnet=a%2Fb", &["CID", "bundle_vpc_info.LAN.subnet"])]
    #[case::charset("", "Application/X-WWW-Form-Urlencoded; charset=UTF-8", "CID=c", &["CID"])]
    #[case::untyped_form("", "", "action=get_api_token&log_enable=true", &["action", "log_enable"])]
    #[case::untyped_json("", "", " {\"CID\":\"c\"}", &["CID"])]
    #[case::both("CID=c", JSON, r#"{"CID":"c","feature":"k8s","none":null}"#, &["CID", "feature"])]
    #[case::nothing("", "image/png", "", &[])]
    #[case::odd("&&a&=b&&", "", "", &["", "a"])]
    fn every_encoding_becomes_one_map(
        #[case] query: &str,
        #[case] content_type: &str,
        #[case] body: &str,
        #[case] expected: &[&str],
    ) {
        let parameters = read(query, content_type, body.as_bytes()).unwrap();
        assert_eq!(parameters.names(), expected);
    }

    #[rstest]
    #[case::plain("a=x", Some("x"))]
    #[case::escaped("a=%2B+%26%3d", Some("+ &="))]
    #[case::not_escaped("a=100%", Some("100%"))]
    #[case::half("a=%4", Some("%4"))]
    #[case::same("a=x&a=x", Some("x"))]
    #[case::empty_first("a=&a=x", Some("x"))]
    #[case::empty_last("a=x&a=", Some("x"))]
    #[case::empty("a=", None)]
    #[case::absent("b=x", None)]
    fn values_are_decoded_and_empty_ones_give_way(
        #[case] query: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(
            read("", FORM, query.as_bytes()).unwrap().text("a"),
            expected
        );
    }

    #[rstest]
    #[case::number(r#"{"a":9}"#, Some("9"))]
    #[case::boolean(r#"{"a":true}"#, Some("true"))]
    #[case::list(r#"{"a":["x"]}"#, None)]
    #[case::object(r#"{"a":{"b":"x"}}"#, None)]
    fn scalars_are_text(#[case] body: &str, #[case] expected: Option<&str>) {
        assert_eq!(read("", JSON, body.as_bytes()).unwrap().text("a"), expected);
    }

    #[rstest]
    #[case::type_("", "text/plain", "a=b", "content type `text/plain`")]
    #[case::json("", JSON, "{\"a\":", "no JSON object: EOF")]
    #[case::json_list("", JSON, "[]", "another JSON value")]
    #[case::multipart("", "multipart/form-data", "--b--", "names no boundary")]
    #[case::two("a=x", FORM, "a=y", "`a` has two values")]
    #[case::two_in_query("a=x&a=y", "", "", "`a` has two values")]
    #[case::not_text("", FORM, "a=%ff", "`a` is not UTF-8")]
    fn what_cannot_be_read_is_named(
        #[case] query: &str,
        #[case] content_type: &str,
        #[case] body: &str,
        #[case] expected: &str,
    ) {
        let error = read(query, content_type, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn the_number_and_the_names_are_bounded() {
        let many = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|index| format!("p{index}=1")).collect();
            read("", FORM, pairs.join("&").as_bytes())
        };
        assert_eq!(many(MAX_PARAMETERS).unwrap().0.len(), MAX_PARAMETERS);
        assert_eq!(many(MAX_PARAMETERS + 1), Err(Malformed::TooMany));
        let long = read("", FORM, "n".repeat(MAX_NAME + 1).as_bytes());
        assert_eq!(long, Err(Malformed::LongName));
    }

    #[test]
    fn deep_json_is_refused_without_an_overflow() {
        let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
        assert!(matches!(
            read("", JSON, deep.as_bytes()),
            Err(Malformed::Json(_))
        ));
    }

    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        /// The same parameters in all encodings, and half of them in the query, are the same map.
        #[test]
        fn the_encoding_makes_no_difference(wanted in prop::collection::btree_map("\\PC{1,12}", "\\PC{1,30}", 0..8)) {
            let form = |pairs: &[(&String, &String)]| {
                let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
                pairs.join("&")
            };
            let pairs: Vec<_> = wanted.iter().collect();
            let expected = Parameters(wanted.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect());
            let half = pairs.len() / 2;
            let json = serde_json::to_string(&wanted).unwrap();
            for read in [
                read(&form(&pairs), "", b""),
                read("", FORM, form(&pairs).as_bytes()),
                read(&form(&pairs[..half]), FORM, form(&pairs[half..]).as_bytes()),
                read("", JSON, json.as_bytes()),
            ] {
                prop_assert_eq!(&read.unwrap(), &expected);
            }
        }

        #[test]
        fn anything_is_read_or_refused(
            query in "[ -~&&[^#]]{0,60}",
            content_type in prop::sample::select(vec![FORM, JSON, "multipart/form-data; boundary=b", ""]),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let request = Request::get(format!("/v2/api?{}", encoded(&query))).header(CONTENT_TYPE, content_type);
            if let Ok(request) = request.body(Bytes::from(body)) {
                let _ = Parameters::read(&request);
            }
        }
    }
}
