//! mock-controller
