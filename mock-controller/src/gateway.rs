//! The inline gateway engine.
