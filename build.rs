//! Links libtorch (with its CUDA half where there is one) and builds the native code in `kernels/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

    let toolkit = if lib.join("libtorch_cuda.so").exists() { Toolkit::find(&lib) } else { None };
    let objects = match toolkit.as_ref().map(kernels).transpose() {
        Ok(objects) => objects.unwrap_or_default(),
        Err(message) => {
            println!("cargo:error={message}");
            println!("cargo:error=NVCC= (empty) builds without the CUDA kernels");
            return;
        }
    };
    native(&include, toolkit.as_ref(), &objects);
    link(&lib, toolkit.as_ref());
    println!("cargo:rustc-env=PULLBACK_LIBTORCH={}", version(&lib));
    println!("cargo:rustc-env=PULLBACK_KERNELS={}", if toolkit.is_some() { TARGETS } else { "not compiled in" });
}

/// The C++ shim (autograd under functorch's vmap, memory accounting, fused Adam, CUDA graphs, copies, traces) and the kernels on the host,
/// with the `objects` of the device's half where there is a `toolkit`.
fn native(include: &Path, toolkit: Option<&Toolkit>, objects: &[PathBuf]) {
    let mut build = cc::Build::new();
    if let Some(cuda) = toolkit.map(|t| t.include.clone()).or_else(|| cuda_headers(include)) {
        build.define("PULLBACK_CUDA_GRAPHS", None).flag("-isystem").flag(cuda.display().to_string());
    }
    if toolkit.is_some() {
        build.define("PULLBACK_KERNELS", None);
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
        // Comparisons become vector selects only where they need not trap; no value changes.
        .flag("-fno-trapping-math")
        .opt_level(3)
        .debug(false)
        .files(
            [
                "autograd", "folded", "rules", "stem", "lapack", "device", "graph", "lane", "trace", "module",
                "kernels", "library",
            ]
            .map(|name| format!("kernels/{name}.cpp")),
        )
        .files(KERNELS.map(|name| format!("kernels/{name}.cpp")))
        .objects(objects)
        .compile("pullback_native");
}

/// The kernels: `<name>.cuh` is the body, `<name>.cpp` its host's instance, `<name>.cu` its launcher.
const KERNELS: [&str; 4] = ["eigh", "gram", "scores", "step"];

/// What the kernels are compiled for: A100 and its like, H100 and its like, and what comes after by way of PTX.
const TARGETS: &str = "sm_80, sm_90, PTX for later ones";

/// A CUDA toolkit: the compiler, its headers, the folder of the runtime that is linked in.
struct Toolkit {
    nvcc: PathBuf,
    include: PathBuf,
    runtime: PathBuf,
}

impl Toolkit {
    /// The one that NVCC names, else the one from PyPI beside libtorch, else that of CUDA_HOME, else that on PATH. An
    /// empty NVCC means none.
    fn find(lib: &Path) -> Option<Self> {
        println!("cargo:rerun-if-env-changed=NVCC");
        println!("cargo:rerun-if-env-changed=CUDA_HOME");
        let named = env::var_os("NVCC").map(PathBuf::from);
        if named.as_ref().is_some_and(|nvcc| nvcc.as_os_str().is_empty()) {
            return None;
        }
        // site-packages/torch/lib -> site-packages/nvidia/cu13
        let beside = lib.ancestors().nth(2).map(|site| site.join("nvidia/cu13"));
        let home = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
        let path = env::var_os("PATH").unwrap_or_default();
        let found = named
            .into_iter()
            .chain(beside.iter().map(|b| b.join("bin/nvcc")))
            .chain(home)
            .chain(env::split_paths(&path).map(|folder| folder.join("nvcc")))
            .find_map(Self::at);
        if let (None, Some(beside)) = (&found, beside.filter(|b| b.exists())) {
            // So that an nvcc that arrives later is noticed.
            println!("cargo:rerun-if-changed={}", beside.display());
        }
        found
    }

    /// The toolkit of this compiler, if it is whole.
    fn at(nvcc: PathBuf) -> Option<Self> {
        let nvcc = fs::canonicalize(nvcc).ok()?;
        let root = nvcc.ancestors().nth(2)?;
        let holding = |folders: &[&str], file: &str| -> Option<PathBuf> {
            folders.iter().map(|folder| root.join(folder)).find(|folder| folder.join(file).exists())
        };
        let include = holding(&["include", "targets/x86_64-linux/include"], "cuda_runtime.h")?;
        let runtime = holding(&["lib64", "lib", "targets/x86_64-linux/lib"], "libcudart_static.a")?;
        Some(Self { nvcc, include, runtime })
    }
}

/// Compiles the device's half of the kernels, one process a file.
fn kernels(toolkit: &Toolkit) -> Result<Vec<PathBuf>, String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo named no OUT_DIR")?);
    let mut running = Vec::new();
    for name in KERNELS {
        let object = out.join(format!("{name}.cu.o"));
        let mut command = Command::new(&toolkit.nvcc);
        command
            .args(["-std=c++17", "-O3", "-Xcompiler", "-fPIC", "-gencode", "arch=compute_80,code=sm_80"])
            .args(["-gencode", "arch=compute_90,code=[sm_90,compute_90]", "-c", &format!("kernels/{name}.cu"), "-o"])
            .arg(&object)
            .stderr(Stdio::piped());
        if let Some(host) = env::var_os("CXX") {
            command.arg("-ccbin").arg(host);
        }
        let child = command.spawn().map_err(|e| format!("{}: {e}", toolkit.nvcc.display()))?;
        running.push((name, object, child));
    }
    let mut objects = Vec::new();
    for (name, object, child) in running {
        let done = child.wait_with_output().map_err(|e| format!("nvcc: {e}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let line = said.lines().find(|line| line.contains("error")).unwrap_or("no message").to_owned();
            return Err(format!("nvcc, kernels/{name}.cu: {line}"));
        }
        objects.push(object);
    }
    Ok(objects)
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
///
/// The kernels bring a CUDA runtime of their own, which shares the device's context with libtorch's: so one binary runs
/// wherever libtorch does. Its symbols are kept inside, or libtorch's libraries would bind to them.
fn link(lib: &Path, toolkit: Option<&Toolkit>) {
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
    if let Some(toolkit) = toolkit {
        println!("cargo:rustc-link-arg=-L{}", toolkit.runtime.display());
        println!("cargo:rustc-link-arg=-Wl,--exclude-libs,libcudart_static.a");
        for name in [":libcudart_static.a", "rt", "dl", "pthread"] {
            println!("cargo:rustc-link-arg=-l{name}");
        }
    }
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
