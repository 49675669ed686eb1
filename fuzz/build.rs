//! A target is started by the fuzzer and not by cargo, so it must know where libtorch is.
fn main() {
    let lib = std::env::var("DEP_PULLBACK_LIBTORCH_LIB").expect("pullback's build script names libtorch's folder");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
}
