//! WebGroups: sets of domain names with wildcards. What a controller takes as a domain is decided here; how a name is
//! compared with one, in `pattern`.

use serde::Serialize;
use uuid::Uuid;

use super::switches::{BareStar, Switches};

/// The system group All-Web: any TLS or HTTP flow, with or without a name.
pub const ALL_WEB: Uuid = Uuid::from_u128(0xdef0_00ad_0000_0000_0000_0000_0000_0002);

/// A named set of domain patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebGroup {
    pub uuid: Uuid,
    pub name: String,
    /// As written by the user.
    pub domains: Vec<String>,
    /// Matches any TLS or HTTP flow, whatever its name.
    pub all_web: bool,
}

/// A domain that the controller does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomain {
    #[error(
        "invalid domain `{domain}`: letters, digits, `.`, `-`, `_` and `*` are allowed, and international names need their A-labels"
    )]
    Characters { domain: String },
    #[error("invalid domain `{domain}`: `**` is not allowed, use a single `*`")]
    DoubleStar { domain: String },
    #[error("invalid domain `*`: name the domains, or use the system group All-Web")]
    BareStar,
    #[error("invalid domain: it is empty, remove it")]
    Empty,
}

impl WebGroup {
    /// A group of `domains`, refused as the vendor's controller refuses them.
    pub fn new(
        uuid: Uuid,
        name: String,
        domains: Vec<String>,
        switches: &Switches,
    ) -> Result<Self, InvalidDomain> {
        let mut all_web = false;
        for domain in &domains {
            check(domain)?;
            if domain == "*" {
                match switches.bare_star {
                    BareStar::Accept => {}
                    BareStar::Reject => return Err(InvalidDomain::BareStar),
                    BareStar::AllWeb => all_web = true,
                }
            }
        }
        Ok(Self {
            uuid,
            name,
            domains,
            all_web,
        })
    }

    /// The group every controller has.
    pub fn system() -> Self {
        Self {
            uuid: ALL_WEB,
            name: "All-Web".into(),
            domains: Vec::new(),
            all_web: true,
        }
    }
}

fn check(domain: &str) -> Result<(), InvalidDomain> {
    if domain.is_empty() {
        return Err(InvalidDomain::Empty);
    }
    if !domain
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte))
    {
        return Err(InvalidDomain::Characters {
            domain: domain.to_owned(),
        });
    }
    if domain.contains("**") {
        return Err(InvalidDomain::DoubleStar {
            domain: domain.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", InvalidDomain::Empty)]
    #[case("**.example.com", InvalidDomain::DoubleStar { domain: "**.example.com".into() })]
    #[case(" api.example.com", InvalidDomain::Characters { domain: " api.example.com".into() })]
    #[case("bücher.example", InvalidDomain::Characters { domain: "bücher.example".into() })]
    #[case("https://example.com/x", InvalidDomain::Characters { domain: "https://example.com/x".into() })]
    fn refused(#[case] domain: &str, #[case] expected: InvalidDomain) {
        let result = WebGroup::new(
            Uuid::nil(),
            "w".into(),
            vec![domain.into()],
            &Switches::default(),
        );
        assert_eq!(result, Err(expected));
    }
}
