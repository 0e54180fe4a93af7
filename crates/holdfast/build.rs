//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.ends_with("linux-gnu") {
        // Addresses to put right at the start take 24 bytes each otherwise: a megabyte, read at every
        // start. Linkers that don't know it say so and go on.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
