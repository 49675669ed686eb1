//! Event files, read by plain python and, where it is installed, by TensorBoard itself.

use crate::python::python;
use pullback_results::store::tensorboard::{EventWriter, Step};

/// Greys 0..12 as [3, 4, 1], and the same in colour as [3, 4, 3].
fn pixels(channels: usize) -> Vec<u8> {
    (0..12 * channels as u8).map(|p| p * 5).collect()
}

fn scalar(tag: &str, step: u64, value: f64) -> Step {
    let mut told = Step::new(step);
    told.scalar(tag, value);
    told
}

fn write(folder: &std::path::Path) {
    let mut writer = EventWriter::create(folder).unwrap();
    for step in 0..200 {
        writer.put(&scalar("loss/train", step, 1.0 / (step + 1) as f64)).unwrap();
    }
    writer.put(&scalar("loss/train", 1 << 40, f64::NAN)).unwrap();
    let mut grey = Step::new(7);
    grey.image("digits/grey", &pixels(1), 4, 3, 1).unwrap();
    // Two values of one step.
    let mut colour = scalar("loss/valid", 300, 0.5);
    colour.image("digits/colour", &pixels(3), 4, 3, 3).unwrap();
    for (n, w, h, c) in [(12, 4, 3, 2), (11, 4, 3, 1), (0, 0, 3, 1)] {
        assert_eq!(grey.image("bad", &vec![0; n], w, h, c).unwrap_err().exit_code(), 2);
    }
    writer.put(&grey).unwrap();
    writer.put(&colour).unwrap();
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
    // The version, 201 points, an image, a point with an image.
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
    second.put(&scalar("loss/valid", 301, 0.25)).unwrap();
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
assert [p.value for p in a.Scalars('loss/valid')] == [0.5, 0.25]
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

/// Steps that are told, in order of writing, and whether every byte belongs to a whole record: by TensorFlow's format.
fn steps(folder: &std::path::Path) -> String {
    let script = r#"
import glob, struct, sys
from tensorboard.compat.proto.event_pb2 import Event
[name] = glob.glob(sys.argv[1] + '/*tfevents*')
data, at, steps = open(name, 'rb').read(), 0, []
while at < len(data):
    length, = struct.unpack_from('<Q', data, at)
    event = Event.FromString(data[at + 12:at + 12 + length])
    steps += [str(event.step) for _ in event.summary.value]
    at += 16 + length
assert at == len(data)
print(' '.join(steps))
"#;
    python(script, &[folder]).unwrap().trim().to_owned()
}

#[test]
fn a_file_goes_on_behind_its_last_whole_record() {
    if python("import tensorboard", &[]).is_err() {
        println!("skipped: no tensorboard in .venv");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, last) = EventWriter::resume(folder.path(), 9).unwrap();
    assert_eq!(last, None, "nothing is there");
    let path = writer.path().to_owned();
    let mut lengths = vec![];
    for step in 1..=3 {
        writer.put(&scalar("loss", step, 0.5)).unwrap();
        writer.flush().unwrap();
        lengths.push(std::fs::metadata(&path).unwrap().len());
    }
    drop(writer);
    let whole = std::fs::read(&path).unwrap();
    let version = (whole.len() as u64 - 3 * (lengths[1] - lengths[0])) as usize;
    // Cut anywhere, or with a bit turned over anywhere, what is left are the whole records before.
    for cut in 0..whole.len() {
        let kept = lengths.iter().filter(|l| **l <= cut as u64).count() as u64;
        let mut turned = whole.clone();
        turned[cut] ^= 0x10;
        for bytes in [&whole[..cut], &turned[..]] {
            std::fs::write(&path, bytes).unwrap();
            let (mut writer, last) = EventWriter::resume(folder.path(), 9).unwrap();
            assert_eq!(last, (kept > 0).then_some(kept), "{cut}");
            writer.flush().unwrap();
            let expected =
                if cut < version { version } else { lengths[..kept as usize].last().map_or(version, |l| *l as usize) };
            assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, expected, "{cut}");
        }
    }
    // Steps beyond the one asked for go, and the next stand in their place.
    std::fs::write(&path, &whole).unwrap();
    let (mut writer, last) = EventWriter::resume(folder.path(), 2).unwrap();
    assert_eq!(last, Some(2));
    for step in 3..=4 {
        writer.put(&scalar("loss", step, 0.25)).unwrap();
    }
    drop(writer);
    assert_eq!(steps(folder.path()), "1 2 3 4");
    // Negative control: without the cut, step 3 stands there twice.
    std::fs::write(&path, [&whole[..], &whole[lengths[1] as usize..]].concat()).unwrap();
    assert_eq!(steps(folder.path()), "1 2 3 3");

    EventWriter::clear(folder.path()).unwrap();
    assert!(!folder.path().exists());
    EventWriter::clear(folder.path()).unwrap();
}
