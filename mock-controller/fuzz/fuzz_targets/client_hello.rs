//! The first bytes of a connection. What must hold: no panic, a name is printable and bounded, and more bytes never
//! change an answer that was given.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mock_controller::gateway::client_hello::{Parse, parse};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    if let Parse::ClientHello(hello) = &whole
        && let Some(name) = &hello.sni
    {
        assert!(
            (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        );
    }
    for length in [data.len() / 2, data.len().saturating_sub(1)] {
        let prefix = parse(&data[..length]);
        assert!(prefix == Parse::Incomplete || prefix == whole);
    }
});
