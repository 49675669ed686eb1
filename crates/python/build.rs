//! Compiles the conversions between Python's tensors and libtorch's and what a thread is to libtorch, and links libtorch_python.
//!
//! pyo3-tch does the same by a feature of torch-sys; with it, torch-sys, tch and the engine would be compiled a second time.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=native");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let lib =
        env::var("DEP_PULLBACK_LIBTORCH_LIB").map_err(|_| "the engine did not say where libtorch is".to_owned())?;
    let lib = Path::new(&lib);
    if !lib.join("libtorch_python.so").exists() {
        return Err(format!(
            "{}: no libtorch_python.so: LIBTORCH must be the torch package of a Python",
            lib.display()
        ));
    }
    let include = lib.with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .files(["native/tensor.cpp", "native/thread.cpp"])
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string())
        .flag("-isystem")
        .flag(python_headers()?)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .debug(false)
        .try_compile("pullback_tensor")
        .map_err(|e| e.to_string())?;
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=dylib=torch_python");
    Ok(())
}

/// Where the interpreter that this is built for has Python.h.
fn python_headers() -> Result<String, String> {
    let python = pyo3_build_config::get().executable.clone().unwrap_or_else(|| "python3".to_owned());
    let script = "import sysconfig; print(sysconfig.get_path('include'), end='')";
    let output = Command::new(&python).args(["-c", script]).output().map_err(|e| format!("{python}: {e}"))?;
    let folder = String::from_utf8_lossy(&output.stdout).into_owned();
    if Path::new(&folder).join("Python.h").exists() {
        Ok(folder)
    } else {
        Err(format!("{folder}: no Python.h (Debian and Ubuntu: apt install python3-dev)"))
    }
}
