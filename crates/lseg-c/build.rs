//! What the linker is told of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number is LSEG_ABI; a test holds them against each other.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,liblseg_fast.so.1");
        // Threads of a pool end some time after their engine: their code must still be there.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
