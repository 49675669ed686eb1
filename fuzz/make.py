"""The first files of each corpus, small and good: what the fuzzer changes. `python make.py RESULTS.h5...` (numpy, h5py, pillow)."""

import gzip
import io
import json
import pathlib
import shutil
import struct
import sys

import h5py
import numpy as np
from PIL import Image

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(parser, name, data):
    folder = CORPUS / parser
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def idx(kind, shape, values):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


def array(values):
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def archive(save, **values):
    out = io.BytesIO()
    save(out, **values)
    return out.getvalue()


images = (np.arange(2 * 4 * 4) * 7 % 256).astype(np.uint8).reshape(2, 4, 4)
put("idx", "images", idx(8, (2, 4, 4), images.tobytes()))
put("idx", "labels", idx(8, (2,), [3, 7]))
put("idx", "images.gz", gzip.compress(idx(8, (2, 4, 4), images.tobytes()), mtime=0))
put("cifar", "one", bytes([3]) + bytes(i * 5 % 256 for i in range(3072)))
put("npy", "u8", array(images))
put("npy", "f32-nchw", array((images / 255).astype(np.float32)[:, None]))
put("npy", "fortran", array(np.asfortranarray(images.astype(np.float64) / 255)))
put("npy", "big-endian", array(images.astype(">u2")))
put("npz", "stored", archive(np.savez, images=images, labels=np.array([1, 2])))
put("npz", "deflated", archive(np.savez_compressed, images=images, labels=np.array([1, 2])))
for name, form, mode in [("grey.png", "PNG", "L"), ("rgba.png", "PNG", "RGBA"), ("rgb.jpg", "JPEG", "RGB"), ("p.gif", "GIF", "P"),
                         ("rgb.bmp", "BMP", "RGB"), ("l.tif", "TIFF", "L"), ("rgb.webp", "WEBP", "RGB"), ("l.pgm", "PPM", "L")]:
    out = io.BytesIO()
    Image.fromarray(images[0]).convert(mode).save(out, form)
    put("pictures", name, out.getvalue())

for name, make in [("u8", lambda f: f.create_dataset("images", data=images)),
                   ("deflated", lambda f: f.create_dataset("images", data=images[:, None], chunks=(1, 1, 4, 4), compression="gzip")),
                   ("f32", lambda f: f.create_dataset("images", data=(images / 255).astype(np.float32)))]:
    path = CORPUS / "made.h5"
    with h5py.File(path, "w", libver="latest" if name == "f32" else "earliest") as file:
        make(file)
        if name == "u8":
            file["labels"] = np.array([1, 2], np.int64)
    put("hdf5", name, path.read_bytes())
    path.unlink()

tensors = {"encoder.0.weight": ("F32", [2, 3], 24), "encoder.0.bias": ("F64", [2], 16)}
header, at = {"__metadata__": {"format": "pt"}}, 0
for name, (kind, shape, size) in tensors.items():
    header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
put("safetensors", "two", struct.pack("<Q", len(text)) + text + bytes(range(at)))

entry = {"model": "a.pt", "model_sha256": "ab" * 32, "dataset": "mnist", "data_sha256": "cd" * 32, "samples": 100, "suite": "suite-2", "norm": "l2",
         "goal": "latent", "eps": [0.5, 1.0], "damage": [[1.0, 0.9, 1.1], [2.0, 1.8, 2.2]], "recon_mse": [0.05, 0.1], "clean_mse": 0.01,
         "area": [1.25, 1.1, 1.4], "passes": [900.0, 850.0], "seed": 0, "version": "0.2.0"}
other = {**entry, "model": "b.pt", "model_sha256": "ef" * 32, "area": [0.5, 0.4, 0.6]}
elsewhere = {**other, "norm": "linf", "setting": "target zero", "eps": [0.1], "damage": [[3.0, 2.0, 4.0]], "recon_mse": [0.2]}
put("leaderboard", "three", (json.dumps([entry, other, elsewhere], indent=2) + "\n").encode())

for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.yaml"):
    put("config", path.stem, path.read_bytes())
for path in sys.argv[1:]:
    (CORPUS / "results").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, CORPUS / "results" / pathlib.Path(path).stem)
