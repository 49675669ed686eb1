//! Event files, read by plain python and, where it is installed, by TensorBoard itself.

use super::python;
use pullback::store::tensorboard::EventWriter;

/// Greys 0..12 as [3, 4, 1], and the same in colour as [3, 4, 3].
fn pixels(channels: usize) -> Vec<u8> {
    (0..12 * channels as u8).map(|p| p * 5).collect()
}

fn write(folder: &std::path::Path) {
    let mut writer = EventWriter::create(folder).unwrap();
    for step in 0..200 {
        writer.scalar("loss/train", step, 1.0 / (step + 1) as f64).unwrap();
    }
    writer.scalar("loss/train", 1 << 40, f64::NAN).unwrap();
    writer.image("digits/grey", 7, &pixels(1), 4, 3, 1).unwrap();
    writer.image("digits/colour", 300, &pixels(3), 4, 3, 3).unwrap();
    for (n, w, h, c) in [(12, 4, 3, 2), (11, 4, 3, 1), (0, 0, 3, 1)] {
        assert_eq!(writer.image("bad", 0, &vec![0; n], w, h, c).unwrap_err().exit_code(), 2);
    }
    writer.flush().unwrap();
}

#[test]
fn records_are_framed_with_masked_crc32c() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    // CRC-32C bit by bit; its check value is published (RFC 3720, "123456789" -> E3069283).
    let script = r#"
import glob, struct, sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
assert crc32c(b'123456789') == 0xe3069283
def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff
[name] = glob.glob(sys.argv[1] + '/*tfevents*')
data, at, records = open(name, 'rb').read(), 0, []
while at < len(data):
    length, check = struct.unpack_from('<QI', data, at)
    assert masked(data[at:at + 8]) == check
    record = data[at + 12:at + 12 + length]
    assert struct.unpack_from('<I', data, at + 12 + length) == (masked(record),)
    records.append(record)
    at += 16 + length
assert b'brain.Event:2' in records[0]
print(len(records))
"#;
    // The version, 201 points, 2 images.
    assert_eq!(python(script, &[folder.path()]).unwrap(), "204\n");
}

#[test]
fn tensorboard_reads_scalars_and_images() {
    if python("import tensorboard, PIL", &[]).is_err() {
        println!("skipped: no tensorboard or Pillow in .venv");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let mut second = EventWriter::create(folder.path()).unwrap();
    second.scalar("loss/valid", 3, 0.25).unwrap();
    drop(second);
    let script = r#"
import io, math, struct, sys
import PIL.Image
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0}, purge_orphaned_data=False)
a.Reload()
assert a.Tags()['scalars'] == ['loss/train', 'loss/valid'], a.Tags()
points = a.Scalars('loss/train')
f32 = lambda x: struct.unpack('f', struct.pack('f', x))[0]
assert [(p.step, p.value) for p in points[:200]] == [(s, f32(1 / (s + 1))) for s in range(200)]
assert points[200].step == 1 << 40 and math.isnan(points[200].value) and len(points) == 201
assert a.Scalars('loss/valid')[0].value == 0.25
for tag, step, mode, channels in [('digits/grey', 7, 'L', 1), ('digits/colour', 300, 'RGB', 3)]:
    [image] = a.Images(tag)
    assert (image.step, image.width, image.height) == (step, 4, 3)
    picture = PIL.Image.open(io.BytesIO(image.encoded_image_string))
    assert picture.mode == mode and picture.size == (4, 3)
    assert picture.tobytes() == bytes(p * 5 for p in range(12 * channels))
print('ok')
"#;
    assert_eq!(python(script, &[folder.path()]).unwrap(), "ok\n");
}
