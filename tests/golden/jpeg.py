"""Images through libjpeg: tests/golden/jpeg.json, which tests/attack/through.rs reads.

    python tests/golden/jpeg.py            (needs Pillow)

Per row: channels, height, width, quality, and the bytes that come out (height x width x channels, in hexadecimal) of the picture that
`picture` makes and the test repeats. Chroma is not subsampled.
"""

import io
import json
import math
from pathlib import Path

from PIL import Image


def picture(channels, height, width):
    """Waves and an edge, as bytes, height x width x channels."""
    values = bytearray()
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                wave = math.sin(0.3 * x + 0.17 * y * (1 + c) + c) * 0.3 + 0.5
                value = min(1.0, wave + (0.2 if x + y > width else 0.0))
                values.append(math.floor(value * 255 + 0.5))
    return bytes(values)


def main():
    rows = []
    for channels, height, width in [(1, 24, 32), (3, 16, 16), (1, 19, 13), (3, 10, 21)]:
        mode = "L" if channels == 1 else "RGB"
        image = Image.frombytes(mode, (width, height), picture(channels, height, width))
        for quality in [5, 40, 75, 95]:
            coded = io.BytesIO()
            image.save(coded, "JPEG", quality=quality, subsampling=0)
            decoded = Image.open(coded).convert(mode).tobytes()
            row = {"channels": channels, "height": height, "width": width, "quality": quality}
            rows.append({**row, "bytes": decoded.hex()})
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
