//! Links libtorch (with its CUDA half where there is one) and builds the native code in `kernels/`.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rustc-check-cfg=cfg(pullback_cuda)");

    // torch-sys tells where it found libtorch's libraries; the headers lie beside them.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!("cargo:error=torch-sys named no libtorch: run `make setup`, or set LIBTORCH");
        return;
    };
    let lib = fs::canonicalize(&lib).unwrap_or(lib);
    let include = lib.with_file_name("include");

    native(&include);
    link(&lib);
    println!("cargo:rustc-env=PULLBACK_LIBTORCH={}", version(&lib));
}

/// The C++ shim: autograd under functorch's vmap, memory accounting, fused Adam, CUDA graphs.
fn native(include: &Path) {
    let mut build = cc::Build::new();
    if let Some(cuda) = cuda_headers(include) {
        build.define("PULLBACK_CUDA_GRAPHS", None).flag("-isystem").flag(cuda.display().to_string());
    }
    build
        .cpp(true)
        .std("c++20")
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string())
        // Stands in for nlohmann/json.hpp, which libtorch's headers name but libtorch does not ship.
        .include("kernels/compat")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .opt_level(2)
        .debug(false)
        .file("kernels/autograd.cpp")
        .file("kernels/module.cpp")
        .file("kernels/graph.cpp")
        .compile("pullback_native");
}

/// CUDA's headers, where libtorch has CUDA: those of PyPI beside torch, or of a toolkit.
fn cuda_headers(include: &Path) -> Option<PathBuf> {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    include.with_file_name("lib").join("libtorch_cuda.so").exists().then_some(())?;
    let beside = include.ancestors().nth(2).map(|packages| packages.join("nvidia/cu13/include"));
    let toolkit = env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from);
    beside.into_iter().chain([toolkit.join("include")]).find(|folder| folder.join("cuda_runtime_api.h").exists())
}

/// Links libtorch_cuda although no symbol of it is named (its registration code is what we need), and sets an
/// rpath so that binaries and tests run without LD_LIBRARY_PATH.
fn link(lib: &Path) {
    let has_cuda = lib.join("libtorch_cuda.so").exists();
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-L{}", lib.display());
    for name in ["torch", "torch_cpu", "c10"] {
        println!("cargo:rustc-link-arg=-l{name}");
    }
    if has_cuda {
        println!("cargo:rustc-cfg=pullback_cuda");
        for name in ["torch_cuda", "c10_cuda"] {
            println!("cargo:rustc-link-arg=-l{name}");
        }
    }
    println!("cargo:rustc-link-arg=-Wl,--as-needed");
}

/// libtorch's version, from the wheel's or the zip's own file.
fn version(lib: &Path) -> String {
    let root = lib.parent().unwrap_or(lib);
    let from_zip = fs::read_to_string(root.join("build-version")).ok();
    let from_wheel = fs::read_to_string(root.join("version.py")).ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("__version__"))?;
        Some(line.split('\'').nth(1)?.to_owned())
    });
    from_wheel.or(from_zip).map_or_else(|| "unknown".to_owned(), |v| v.trim().to_owned())
}
