//! Headers that claim more than a machine has: they are refused in one line, in a process that may not have that memory.

use super::{desk, stderr};
use crate::child;
use crate::files::{binary, on_cpu};
use std::process::Command;
use std::time::Duration;

/// A file or folder of each format whose header claims 2^31 images, or a picture of 2 GB, and holds none.
const MAKE: &str = r#"
import gzip, os, struct, zipfile, zlib
import h5py

def put(name, data):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as file:
        file.write(data)

def part(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

many = 1 << 31
idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", many, 28, 28)
put("idx/t10k-images-idx3-ubyte", idx)
put("gz/t10k-images-idx3-ubyte.gz", gzip.compress(idx))
text = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 28, 28), }" % many
text += " " * (63 - (10 + len(text)) % 64) + "\n"
npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
put("x.npy", npy)
for name, how in [("stored.npz", zipfile.ZIP_STORED), ("deflated.npz", zipfile.ZIP_DEFLATED)]:
    with zipfile.ZipFile(name, "w", how) as archive:
        archive.writestr("images.npy", npy)
with h5py.File("x.h5", "w") as file:
    file.create_dataset("images", (many, 28, 28), "f4", chunks=(1, 28, 28))
size = struct.pack(">IIBBBBB", 16000, 16000, 16, 6, 0, 0, 0)
put("pictures/x.png", b"\x89PNG\r\n\x1a\n" + part(b"IHDR", size) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b""))
put("heavy/model.safetensors", struct.pack("<Q", 1 << 40) + b"{}")
"#;

#[test]
fn what_a_header_only_claims_is_refused_before_memory_is_taken() {
    let folder = desk();
    let at = folder.path();
    let mut make = Command::new(crate::files::interpreter());
    let made = make.args(["-c", MAKE]).current_dir(at).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    std::fs::copy(at.join("run/config.yaml"), at.join("heavy/config.yaml")).unwrap();
    let lies = ["idx", "gz", "x.npy", "stored.npz", "deflated.npz", "x.h5", "pictures"].map(|data| ("run", data));
    for (model, data) in lies.into_iter().chain([("heavy", "strokes")]) {
        // libtorch with CUDA maps some 3 GiB by itself.
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--as={}", 5u64 << 30)).arg(binary());
        limited.args(["score", "-m", model, "-d", data, "--limit", "2", "-o", "o.h5", "-q"]);
        on_cpu(&mut limited).current_dir(at).env("OMP_NUM_THREADS", "1");
        let out =
            child::within(Duration::from_secs(60), &mut limited).unwrap_or_else(|| panic!("{model} {data}: hangs"));
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{model} {data}: {:?} {said}", out.status);
        assert_eq!(said.trim().lines().count(), 1, "{model} {data}: {said}");
    }
}
