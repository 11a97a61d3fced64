//! Links the program at a fixed address.
//!
//! Every container of an embedded cluster is this program once more, and applying a hundred thousand relocations to a
//! position-independent image of its size was an eighth of the CPU time of a run. Containers hold no secret worth an
//! address layout.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Other environments link statically or by other rules; there it stays as it is.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
