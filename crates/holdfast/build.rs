//! How the program is linked.

use std::env::var;
use std::fs;
use std::path::Path;

/// The names of functions that run, those of the usual calls before those of the start.
const ORDER: &str = "order.txt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ORDER}");
    if !var("TARGET").unwrap_or_default().ends_with("linux-gnu") {
        return;
    }
    // Addresses to put right at the start take 24 bytes each otherwise: a megabyte, read at every
    // start. Linkers that don't know it say so and go on.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if var("PROFILE").is_ok_and(|profile| profile == "release") && !linker_is_other() {
        let script = Path::new(&var("OUT_DIR").unwrap_or_default()).join("order.ld");
        fs::write(&script, script_of(&fs::read_to_string(ORDER).expect(ORDER))).expect("order.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
}

/// One that was asked for and may know no scripts; the usual ones are LLVM's and GNU's.
fn linker_is_other() -> bool {
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    ["mold", "gold", "wild"]
        .iter()
        .any(|name| flags.contains(name))
}

/// What runs lies side by side, before all else, which is then never mapped: the kernel maps 64 KiB
/// around each function that runs, and in the compiler's order that is most of the program.
/// <https://sourceware.org/binutils/docs/ld/SECTIONS.html>, `INSERT`: the linker's own order otherwise.
fn script_of(names: &str) -> String {
    let groups = names.split("\n\n").map(|group| {
        let names = group.lines().filter(|line| !line.starts_with('#'));
        let sections = names.fold(String::new(), |text, name| {
            text + "    .text." + name + " .text.unlikely." + name + "\n"
        });
        format!("  *(\n{sections}  )\n")
    });
    let groups: String = groups.skip(1).collect();
    format!("SECTIONS {{\n .text : {{\n{groups} }}\n}} INSERT BEFORE .init;\n")
}
