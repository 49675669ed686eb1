"""Makes the small data files of tests/data.rs: images by Pillow, HDF5 files by h5py.

    python -m pip install h5py numpy pillow && python tests/golden/data/make.py

expected.json holds, for every image file, the pixels as Pillow decodes them ([H, W, C] flat, with the largest value).
The pixels of the HDF5 files follow a formula that the test repeats: (31 n + 17 c + 5 h + 3 w) mod 256.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

HERE = Path(__file__).parent
expected = {}


def image(name, picture, **options):
    picture.save(HERE / name, **options)
    with Image.open(HERE / name) as read:
        top = 65535 if read.mode.startswith("I") else 255
        if read.mode in ("P", "RGBA"):
            read = read.convert("RGB")
        elif read.mode in ("1", "LA"):
            read = read.convert("L")
        pixels = np.asarray(read)
    expected[name] = {"shape": list(pixels.shape), "top": top, "pixels": pixels.flatten().tolist()}


h, w = np.mgrid[0:9, 0:7]
grey = ((h * 29 + w * 11) % 256).astype(np.uint8)
colour = np.stack([grey, (h * 7 + w * 31) % 256, (255 - h * 13 - w * 3) % 256], -1).astype(np.uint8)
image("grey.png", Image.fromarray(grey))
image("colour.png", Image.fromarray(colour))
image("palette.png", Image.fromarray(colour).quantize(16))
image("grey16.png", Image.fromarray((h * 7001 + w * 17).astype(np.uint16)))
opaque = np.concatenate([colour, np.full((9, 7, 1), 255, np.uint8)], -1)
image("opaque.png", Image.fromarray(opaque))
image("grey_alpha.png", Image.fromarray(np.stack([grey, np.full_like(grey, 255)], -1)))
image("grey_bits.png", Image.fromarray(grey > 90))
clear = opaque.copy()
clear[4, 3, 3] = 128
image("clear.png", Image.fromarray(clear))

# Smooth pictures: JPEG decoders may differ by a step or two, not more, where nothing is sharp.
h, w = np.mgrid[0:24, 0:20] / 24.0
soft = np.stack([40 + 180 * h, 60 + 150 * w, 128 + 90 * np.sin(3 * h + 2 * w)], -1).round().astype(np.uint8)
image("grey.jpg", Image.fromarray(soft[..., 2]), quality=92)
image("colour444.jpg", Image.fromarray(soft), quality=92, subsampling=0)
image("colour420.jpg", Image.fromarray(soft), quality=92, subsampling=2)
image("progressive.jpg", Image.fromarray(soft), quality=92, progressive=True)
comment = Image.Exif()
comment[0x010E] = "a segment before the frame"
image("grey_exif.jpg", Image.fromarray(soft[..., 2]), quality=92, exif=comment)
(HERE / "expected.json").write_text(json.dumps(expected, separators=(",", ":")))

n, c, h, w = np.mgrid[0:6, 0:3, 0:4, 0:5]
pixels = ((31 * n + 17 * c + 5 * h + 3 * w) % 256).astype(np.uint8)
labels = np.array([3, 1, 4, 1, 5, 9])


def write(name, **groups):
    with h5py.File(HERE / name, "w", track_order=False) as file:
        for path, (data, options) in groups.items():
            file.create_dataset(path, data=data, **options)


write("u8.h5", images=(pixels, {"chunks": (2, 3, 4, 5), "compression": "gzip"}), labels=(labels.astype(np.uint8), {}))
write("f16.h5", images=((pixels / 255).astype(np.float16), {}), labels=(labels.astype(">i4"), {}))
write("f32.h5", images=((pixels / 255).astype(np.float32), {}))
write("f64be.h5", images=((pixels[:, 0] / 255).astype(">f8"), {}), labels=(labels.astype(np.int64), {}))
with h5py.File(HERE / "groups.h5", "w") as file:
    file["train/images"], file["train/labels"] = pixels, labels
    file["test/images"], file["test/labels"] = pixels[:2] + 1, labels[:2]
