//! Files that are not read. They are recognised by their names and first bytes, and each error says how to convert the file.

use std::io::Read;
use std::path::Path;

/// What the file at `path` is, by its name and first bytes, and how it is converted to a file that is read.
pub fn file(path: &Path) -> std::io::Result<String> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.take(512).read_to_end(&mut head)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let python = |what: &str, code: &str| format!("{what} (in Python: {code})");
    Ok(match head.as_slice() {
        [] => "an empty file".to_owned(),
        [0x1f, 0x8b, ..] if name.contains("ubyte") => "a gzipped IDX file (give the folder that it is in)".to_owned(),
        [0x1f, 0x8b, ..] if name.ends_with("tar.gz") || name.ends_with(".tgz") => {
            "a packed archive (tar xzf it, and give the folder)".to_owned()
        }
        [0x1f, 0x8b, ..] => "a gzip file (gunzip it first)".to_owned(),
        [0, 0, _, 1..=4, ..] => "an IDX file (give the folder that it is in)".to_owned(),
        [0x89, b'P', b'N', b'G', ..] => "a PNG image (give the folder that it is in)".to_owned(),
        [0xff, 0xd8, ..] => "a JPEG image (give the folder that it is in)".to_owned(),
        bytes if bytes.starts_with(b"MATLAB 5") => python(
            "a MATLAB 5 file, as SVHN has",
            "m = scipy.io.loadmat('FILE.mat'); numpy.savez('FILE.npz', images=m['X'].transpose(3, 2, 0, 1), labels=m['y'][:, 0] % 10)",
        ),
        bytes if bytes.starts_with(b"PAR1") => python(
            "a Parquet file",
            "d = datasets.load_dataset('parquet', data_files='FILE')['train']; numpy.savez('FILE.npz', images=numpy.stack([numpy.asarray(r['image']) for r in d]), labels=d['label']), by the names of its columns",
        ),
        bytes if bytes.get(257..262) == Some(b"ustar") => {
            "a tar archive, as WebDataset has its shards (tar xf it into a folder, and give that)".to_owned()
        }
        bytes if name.ends_with(".bin") && size > 0 && size % 27_648 == 0 && !bytes.starts_with(b"PK") => python(
            "bare bytes, as STL-10 has its .bin",
            "numpy.save('FILE.npy', numpy.fromfile('FILE.bin', 'u1').reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2))",
        ),
        bytes if name.ends_with(".bin") && size > 0 && size % 3073 == 0 && !bytes.starts_with(b"PK") => {
            "a batch of CIFAR-10's (give the folder that it is in)".to_owned()
        }
        [0x80, 2..=5, ..] => python(
            "a pickle, as CIFAR-10's Python version",
            "d = pickle.load(open('FILE', 'rb'), encoding='bytes'); numpy.savez('FILE.npz', images=d[b'data'].reshape(-1, 3, 32, 32), labels=d[b'labels'])",
        ),
        bytes if bytes.starts_with(b"PK\x03\x04") => {
            "a zip archive without arrays of NumPy (unpack it and give the folder; a model is given by -m)".to_owned()
        }
        bytes if bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            python("text", "numpy.savez('FILE.npz', images=..., labels=...) of what it tells")
        }
        bytes => {
            let bytes: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
            let what = format!("a file of an unknown kind that begins with {}", bytes.join(" "));
            python(&what, "numpy.savez('FILE.npz', images=..., labels=...)")
        }
    })
}

/// The unreadable format that a folder holds, by the names of its files.
pub fn folder(names: &[&str]) -> Option<&'static str> {
    let any = |wanted: &dyn Fn(&str) -> bool| names.iter().any(|name| wanted(&name.to_ascii_lowercase()));
    if any(&|n| n == "data_batch_1" || n == "test_batch") {
        return Some(
            "CIFAR-10's pickles (take the binary version, cifar-10-binary.tar.gz, or give one file to see how it is converted)",
        );
    }
    if any(&|n| n == "train_x.bin" || n == "test_x.bin") {
        return Some("STL-10's bare .bin files (give one file to see how it is converted)");
    }
    let ends = |end: &'static str| any(&move |n: &str| n.ends_with(end));
    if ends(".parquet") {
        return Some("Parquet files (give one file to see how it is converted)");
    }
    if ends(".tar") {
        return Some("tar archives (tar xf them into a folder, and give that)");
    }
    if ends(".mat") {
        return Some("MATLAB files (give one file to see how it is converted)");
    }
    if ends(".npy") || ends(".npz") || ends(".h5") || ends(".hdf5") {
        return Some("files of arrays (give one of them)");
    }
    None
}
