//! Links libtorch (with its CUDA half if there is one) and builds the native code in `kernels/`.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rustc-check-cfg=cfg(pullback_cuda)");
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        // Only the documentation is built, without libtorch: nothing is compiled and nothing is linked.
        println!("cargo:rustc-env=PULLBACK_LIBTORCH=none");
        println!("cargo:rustc-env=PULLBACK_KERNELS=not compiled in");
        return;
    }

    // torch-sys says where it found libtorch's libraries; the headers lie beside them.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        println!("cargo::error=torch-sys named no libtorch: run `make setup`, or set LIBTORCH");
        return;
    };
    let lib = fs::canonicalize(&lib).unwrap_or(lib);

    let toolkit = if lib.join("libtorch_cuda.so").exists() { Toolkit::find(&lib) } else { None };
    let device = match toolkit.as_ref().map(kernels).transpose() {
        Ok(device) => device,
        Err(message) => {
            println!("cargo::error={message}");
            println!("cargo::error=NVCC= (empty) builds without the CUDA kernels");
            return;
        }
    };
    if let Err(message) = native(&lib, toolkit.as_ref(), device.as_deref()).and_then(|()| link(&lib)) {
        println!("cargo::error={message}");
        return;
    }
    println!("cargo:rustc-env=PULLBACK_LIBTORCH={}", version(&lib));
    println!("cargo:rustc-env=PULLBACK_KERNELS={}", if toolkit.is_some() { TARGETS } else { "not compiled in" });
}

/// The C++ shim (autograd under functorch's vmap, memory accounting, fused Adam, CUDA graphs, copies, traces) and the kernels on the host,
/// and the object of the `device`'s half if there is a `toolkit`.
fn native(lib: &Path, toolkit: Option<&Toolkit>, device: Option<&Path>) -> Result<(), String> {
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    if let Some(cuda) = toolkit.map(|t| t.include.clone()).or_else(|| cuda_headers(&include)) {
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
        // Replaces nlohmann/json.hpp, which libtorch's headers include but libtorch does not ship.
        .include("kernels/compat")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // The compiler makes vector selects of comparisons only if they need not trap; no value changes.
        .flag("-fno-trapping-math")
        // ATen's parallel_for is compiled into its callers: without OpenMP it would be a plain loop.
        .flag("-fopenmp")
        .opt_level(3)
        .debug(false);
    let files = SHIM.iter().chain(&KERNELS).map(|name| format!("kernels/{name}.cpp"));
    let compile = |source: &str, object: &Path| {
        let mut command = build.get_compiler().to_command();
        // Compiled for several processors, it is to round alike on all.
        command.args((source == "kernels/step.cpp").then_some("-ffp-contract=off"));
        command.args(["-c", source, "-o"]).arg(object);
        command
    };
    let objects = objects(&version_of(build.get_compiler().path()), &version(lib), files, compile)?;
    build.objects(objects).objects(device).compile("pullback_native");
    Ok(())
}

/// The C++ shim's files.
const SHIM: [&str; 28] = [
    "vjp",
    "memory",
    "settings",
    "adam",
    "folded",
    "rules",
    "rules_convolution",
    "stem",
    "lapack",
    "products",
    "device",
    "graph",
    "lane",
    "trace",
    "module",
    "recurrent",
    "writes",
    "taps",
    "kernels",
    "library",
    "parallel",
    "weights",
    "convolution",
    "linear",
    "lanes",
    "direct",
    "onto_few",
    "onto_maps",
];

/// The object of each source by `compile`, which returns the command for one; cargo limits how many run at once.
///
/// Objects are kept in the target folder under a key of everything they depend on (the source, our headers, the command, the versions of
/// the `compiler` and of `libtorch`), because cargo runs this script again for each profile and for clippy, which need the same objects.
fn objects(
    compiler: &str,
    libtorch: &str,
    sources: impl Iterator<Item = String>,
    compile: impl Fn(&str, &Path) -> Command,
) -> Result<Vec<PathBuf>, String> {
    let out = out_dir()?;
    // target/<profile>/build/<package>/out
    let kept = out.ancestors().nth(4).unwrap_or(&out).join("kernels");
    fs::create_dir_all(&kept).map_err(|e| format!("{}: {e}", kept.display()))?;
    let headers = headers(Path::new("kernels"))?;
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize).max(1);
    let mut running: VecDeque<(String, PathBuf, PathBuf, Child)> = VecDeque::new();
    let mut objects = Vec::new();
    for source in sources {
        let mut key = DefaultHasher::new();
        let text = fs::read(&source).map_err(|e| format!("{source}: {e}"))?;
        let command = compile(&source, Path::new(""));
        (compiler, libtorch, &headers, text, command.get_program()).hash(&mut key);
        command.get_args().for_each(|argument| argument.hash(&mut key));
        let name = source.trim_start_matches("kernels/");
        let object = kept.join(format!("{name}-{:016x}.o", key.finish()));
        if !object.exists() {
            if running.len() >= jobs {
                running.pop_front().map_or(Ok(()), finished)?;
            }
            let begun = out.join(format!("{name}.o"));
            let mut command = compile(&source, &begun);
            let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
            let child = child.map_err(|e| format!("{}: {e}", Path::new(command.get_program()).display()))?;
            running.push_back((source, begun, object.clone(), child));
        }
        objects.push(object);
    }
    running.into_iter().try_for_each(finished)?;
    Ok(objects)
}

/// Waits for a compiler; its object is moved to its place only when it is complete.
fn finished((source, begun, object, child): (String, PathBuf, PathBuf, Child)) -> Result<(), String> {
    let done = child.wait_with_output().map_err(|e| format!("{source}: {e}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let line = said.lines().find(|line| line.contains("error")).unwrap_or("no message").to_owned();
        return Err(format!("{source}: {line}"));
    }
    fs::rename(&begun, &object).map_err(|e| format!("{}: {e}", object.display()))
}

/// The contents of all our headers; a change in any of them compiles everything again.
fn headers(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut held = Vec::new();
    for path in paths {
        if path.is_dir() {
            held.extend(headers(&path)?);
        } else if path.extension().is_none_or(|kind| kind != "cpp" && kind != "cu") {
            held.push(fs::read(&path).map_err(failed)?);
        }
    }
    Ok(held)
}

/// The version that a compiler reports.
fn version_of(compiler: &Path) -> String {
    let said = Command::new(compiler).arg("--version").output().map(|out| out.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).into_owned()
}

/// The kernels: `<name>.cuh` is the body, `<name>.cpp` its host's instance, `<name>.cu` its launcher.
const KERNELS: [&str; 4] = ["eigh", "gram", "scores", "step"];

/// The targets of the kernels: A100 and similar, H100 and similar, and later devices through PTX.
const TARGETS: &str = "sm_80, sm_90, PTX for later ones";

/// A CUDA toolkit: the compiler, its headers, and the folder of the runtime that is linked.
struct Toolkit {
    nvcc: PathBuf,
    include: PathBuf,
    runtime: PathBuf,
}

impl Toolkit {
    /// The toolkit that NVCC names, otherwise the one from PyPI beside libtorch, otherwise that of CUDA_HOME, otherwise that on PATH. An
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
            // So that an nvcc that is installed later is noticed.
            println!("cargo:rerun-if-changed={}", beside.display());
        }
        found
    }

    /// The toolkit of this compiler, if it is complete.
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

/// Compiles the device's half of the kernels; one object holds them and the CUDA runtime that they use.
fn kernels(toolkit: &Toolkit) -> Result<PathBuf, String> {
    let files = KERNELS.iter().map(|name| format!("kernels/{name}.cu"));
    let objects = objects(&version_of(&toolkit.nvcc), "", files, |source, object| {
        let mut command = Command::new(&toolkit.nvcc);
        command
            .args(["-std=c++17", "-O3", "-Xcompiler", "-fPIC", "-gencode", "arch=compute_80,code=sm_80"])
            .args(["-gencode", "arch=compute_90,code=[sm_90,compute_90]", "-c", source, "-o"])
            .arg(object);
        if let Some(host) = env::var_os("CXX") {
            command.arg("-ccbin").arg(host);
        }
        command
    })?;
    joined(toolkit, &objects)
}

/// CUDA's headers, if libtorch has CUDA: those of PyPI beside torch, or of a toolkit.
fn cuda_headers(include: &Path) -> Option<PathBuf> {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    include.with_file_name("lib").join("libtorch_cuda.so").exists().then_some(())?;
    let beside = include.ancestors().nth(2).map(|packages| packages.join("nvidia/cu13/include"));
    let toolkit = env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from);
    beside.into_iter().chain([toolkit.join("include")]).find(|folder| folder.join("cuda_runtime_api.h").exists())
}

/// Joins the kernels' objects and the static CUDA runtime into one object in which the runtime's symbols are hidden.
///
/// The kernels have their own runtime, which shares the device's context with libtorch's, so that one binary runs wherever libtorch does.
/// If a program exported its symbols, libtorch's libraries would bind to them. The last link of a program could hide them too, but the
/// program may be somebody else's, and we do not control its link.
fn joined(toolkit: &Toolkit, objects: &[PathBuf]) -> Result<PathBuf, String> {
    let joined = out_dir()?.join("device.o");
    let runtime = toolkit.runtime.join("libcudart_static.a");
    let mut command = cc::Build::new().cpp(true).get_compiler().to_command();
    command
        .args(["-r", "-nostdlib", "-Wl,--exclude-libs,libcudart_static.a", "-o"])
        .arg(&joined)
        .args(objects)
        .arg(runtime);
    let done = command.output().map_err(|e| format!("the linker: {e}"))?;
    if done.status.success() { Ok(joined) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// Links libtorch, and says where it is. All of this also holds for crates that depend on this one, except the rpath.
///
/// libtorch_cuda is linked because `ffi::keep_cuda` names one of its symbols. We need its registration code, but no code names that, and
/// linkers leave out libraries of which no symbol is named.
///
/// At run time our own binaries find libtorch by an rpath. Cargo passes no linker argument on to dependents. But programs that cargo runs
/// (`cargo run`, `cargo test`) search folders below the target folder that a build script has named, so a link to libtorch's folder there
/// is enough. For a program that is started directly, `DEP_PULLBACK_LIBTORCH_LIB` tells the build script of the crate that depends on us
/// where libtorch is (README, "As a library").
fn link(lib: &Path) -> Result<(), String> {
    let here = out_dir()?.join("libtorch");
    let _ = fs::remove_file(&here);
    std::os::unix::fs::symlink(lib, &here).map_err(|e| format!("{}: {e}", here.display()))?;
    println!("cargo:rustc-link-search=native={}", here.display());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:libtorch_lib={}", lib.display());
    if lib.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-cfg=pullback_cuda");
        for name in ["torch_cuda", "c10_cuda"] {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }
    println!("cargo:rustc-link-lib=dylib{}", openmp(lib));
    // For the CUDA runtime; with a recent C library they are empty.
    for name in ["rt", "dl", "pthread"] {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
    Ok(())
}

fn out_dir() -> Result<PathBuf, String> {
    env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| "cargo named no OUT_DIR".to_owned())
}

/// The OpenMP runtime that libtorch ships, so that its threads and ours are one pool; otherwise the compiler's own.
fn openmp(lib: &Path) -> String {
    let names =
        fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let brought = names.into_iter().find(|name| name.starts_with("libgomp"));
    brought.map_or_else(|| "=gomp".to_owned(), |name| format!(":+verbatim={name}"))
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
