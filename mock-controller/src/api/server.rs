//! The API over HTTPS.
