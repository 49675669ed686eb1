"""Images as people have them, and how they are read."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import pullback as pb

LABELS = torch.arange(8) % 3


def _score(vae, data, **options):
    return pb.score(vae, data, metric="mean", quiet=True, **options)


class Items(Dataset):
    """Items as `give` makes them."""

    def __init__(self, images, give):
        self.images, self.give = images, give

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.give(self.images[i], int(LABELS[i]))


class Stream(IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(zip(self.images, LABELS, strict=True))


class Buffered(Stream):
    """Each item in the place of the one before."""

    def __iter__(self):
        buffer = torch.empty_like(self.images[0])
        for image, label in zip(self.images, LABELS, strict=True):
            yield buffer.copy_(image), label


SOURCES = {
    "tensor": lambda x: x,
    "double tensor that needs a gradient": lambda x: x.double().requires_grad_(),
    "array": lambda x: x.numpy(),
    "pair": lambda x: (x, LABELS),
    "pair of arrays": lambda x: (x.numpy(), LABELS.numpy()),
    "TensorDataset": lambda x: TensorDataset(x, LABELS),
    "items without labels": lambda x: Items(x, lambda image, label: image),
    "dicts": lambda x: Items(x, lambda image, label: {"pixel_values": image, "label": label}),
    "pair with whole numbers as floats": lambda x: (x, LABELS.float()),
    "arrays as items, an axis of length 1 backwards": lambda x: Items(x, lambda i, label: (i.numpy()[::-1], label)),
    "arrays as items": lambda x: Items(x, lambda image, label: (image.numpy(), label)),
    "loader": lambda x: DataLoader(TensorDataset(x, LABELS), batch_size=3),
    "shuffled loader": lambda x: DataLoader(TensorDataset(x, LABELS), batch_size=3, shuffle=True),
    "loader with a collate_fn": lambda x: DataLoader(
        TensorDataset(x, LABELS),
        batch_size=3,
        collate_fn=lambda b: {"image": torch.stack([i for i, _ in b]), "label": torch.stack([t for _, t in b])},
    ),
    "loader with a batch_sampler": lambda x: DataLoader(
        TensorDataset(x, LABELS), batch_sampler=BatchSampler(RandomSampler(x), 3, drop_last=False)
    ),
    "labels [n, 1]": lambda x: DataLoader(TensorDataset(x, LABELS[:, None]), batch_size=3),
    "labels in a list": lambda x: DataLoader(
        TensorDataset(x, LABELS), collate_fn=lambda b: (torch.stack([i for i, _ in b]), [int(t) for _, t in b])
    ),
    "stream": Stream,
    "stream by one buffer": Buffered,
    "loader of a stream": lambda x: DataLoader(Stream(x), batch_size=3),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_give_the_same(conv, images, name):
    expected = _score(conv, images)
    found = _score(conv, SOURCES[name](images))
    assert torch.equal(found.index, torch.arange(8))
    assert torch.allclose(found.spectrum, expected.spectrum, rtol=1e-6)
    if name not in ("tensor", "double tensor that needs a gradient", "array", "items without labels"):
        assert torch.equal(found.labels, LABELS)
    else:
        assert found.labels is None


def test_what_a_loader_chooses_is_scored(conv, images):
    data = TensorDataset(images, LABELS)
    half = lambda b: (torch.stack([i for i, _ in b]) / 2, torch.stack([t for _, t in b]))
    chosen = _score(conv, DataLoader(data, batch_sampler=[[6, 1], [4]], collate_fn=half))
    assert torch.equal(chosen.labels, LABELS[[1, 4, 6]]) and torch.equal(chosen.index, torch.arange(3))
    assert torch.allclose(chosen.spectrum, _score(conv, images[[1, 4, 6]] / 2).spectrum, rtol=1e-6)
    # Positions are among the chosen: a report must not take them for the data set's.
    named = [_score(conv, DataLoader(data, sampler=s)).attributes["dataset"] for s in ([0, 1], [0, 2])]
    assert named[0] != named[1] and all(name.startswith("2 of TensorDataset ") for name in named)
    assert len(_score(conv, DataLoader(data, sampler=RandomSampler(data, num_samples=3))).index) == 3
    assert (
        len(_score(conv, DataLoader(data, sampler=RandomSampler(data, replacement=True, num_samples=11))).index) == 11
    )
    alone = DataLoader(data, batch_size=None, collate_fn=lambda item: (item[0] / 2, item[1]))
    assert torch.allclose(_score(conv, alone).spectrum, _score(conv, images / 2).spectrum, rtol=1e-6)


def test_names_tell_data_apart(conv, images):
    def name(data):
        return _score(conv, data).attributes["dataset"]

    assert name(images) == name(images.clone()) != name(images.flip(0))
    assert name(TensorDataset(images)) == name(TensorDataset(images, LABELS)) != name(TensorDataset(images.flip(0)))
    assert name(images).startswith("Tensor [8, 1, 12, 12] ")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.ones(8, 40, dtype=torch.int64), r"int64 \[40\]"),
        (torch.rand(8), r"float32 \[\]"),
        (["cat"] * 8, "str"),
        ([1, None] * 4, "none of some"),
    ],
)
def test_labels_that_are_no_classes_are_left_out(conv, images, labels, found):
    class Beside(Stream):
        def __iter__(self):
            return iter(zip(self.images, labels, strict=True))

    with pytest.warns(pb.PullbackWarning, match=f"labels are left out: .*, found {found}") as told:
        assert _score(conv, Beside(images)).labels is None
    assert told[0].filename == __file__
    if isinstance(labels, torch.Tensor):
        for data in (TensorDataset(images, labels), DataLoader(TensorDataset(images, labels), batch_size=3)):
            with pytest.warns(pb.PullbackWarning, match="labels are left out"):
                assert _score(conv, data).labels is None


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.full((8,), 0.5), "float"),
        (["cat"] * 8, "str"),
        (torch.eye(8, 10), r"float32 \[10\]"),
        (np.eye(8, dtype="int64").tolist(), r"int64 \[8\]"),
        ([torch.zeros(n, 4) for n in range(8)], r"float32 \[0, 4\]"),
    ],
)
def test_labels_beside_images_that_are_no_classes_are_left_out(conv, images, labels, found):
    with pytest.warns(pb.PullbackWarning, match=f"labels are left out: .*, found {found}"):
        assert _score(conv, images, labels=labels).labels is None


def test_arrays_that_are_read_only_draw_no_warning(conv, images):
    array = images.numpy().copy()
    array.flags.writeable = False
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="The given NumPy array is not writable")
            _score(conv, list(array))
    finally:
        torch.set_warn_always(always)


def test_what_there_is_to_know_of_a_file_is_warned_of(images, tmp_path):
    np.savez(tmp_path / "x.npz", images=images.numpy(), labels=np.eye(8))
    with pytest.warns(pb.PullbackWarning, match=r"x.npz: labels: left out, \[8, 8\] of float64") as told:
        found, labels = pb.images(tmp_path / "x.npz")
    assert torch.equal(found, images) and labels is None
    assert told[0].filename == __file__


def test_labels_that_some_samples_lack(conv, images):
    data = [(x, 1 if i < 7 else None) for i, x in enumerate(images)]
    with pytest.raises(ValueError, match="expected one class of each sample, as the first has"):
        _score(conv, data)


def test_bytes_words_and_bool(conv, images):
    rough = (images * 255).round()
    expected = _score(conv, rough / 255).spectrum
    assert torch.equal(_score(conv, rough.byte()).spectrum, expected)
    assert torch.equal(_score(conv, rough.byte().numpy()).spectrum, expected)
    words = (rough.numpy() * 257).astype(np.uint16)
    assert torch.allclose(_score(conv, words).spectrum, expected, rtol=1e-5)
    for same in (torch.from_numpy(words), words.astype(">u2"), TensorDataset(torch.from_numpy(words), LABELS)):
        assert torch.equal(_score(conv, same).spectrum, _score(conv, words).spectrum)
    big = images.numpy().astype(">f4")
    for same in (big, [(x, 0) for x in big]):
        assert torch.equal(_score(conv, same).spectrum, _score(conv, images).spectrum)
    assert torch.allclose(_score(conv, rough.int(), full_scale=255).spectrum, expected, rtol=1e-6)
    assert torch.equal(_score(conv, images > 0.5).spectrum, _score(conv, (images > 0.5).float()).spectrum)


def test_channels_last(images):
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    model = pb.Model(wide, encode=wide, decode=lambda z: z.repeat(1, 64).view(-1, 3, 8, 8))
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(_score(model, x.permute(0, 2, 3, 1)).spectrum, _score(model, x).spectrum)


def test_limit_sample_and_labels(conv, images):
    data = TensorDataset(images, LABELS)
    assert _score(conv, data, limit=3).index.tolist() == [0, 1, 2]
    drawn = _score(conv, data, sample=3, seed=5)
    assert len(drawn.index) == 3 and torch.equal(drawn.labels, LABELS[drawn.index])
    assert torch.allclose(drawn.spectrum, _score(conv, data).spectrum[drawn.index], rtol=1e-6)
    assert torch.equal(_score(conv, images, labels=LABELS).labels, LABELS)
    half = DataLoader(data, batch_size=2, sampler=SubsetRandomSampler([1, 4, 6]))
    assert torch.equal(_score(conv, half).labels, LABELS[[1, 4, 6]])
    assert torch.equal(_score(conv, Subset(data, [5, 2])).labels, LABELS[[5, 2]])


def test_a_path_is_the_command_lines(conv, images, tmp_path):
    np.savez(tmp_path / "x.npz", images=images.numpy(), labels=LABELS.numpy())
    found = _score(conv, tmp_path / "x.npz")
    assert torch.equal(found.spectrum, _score(conv, images).spectrum)
    assert torch.equal(found.labels, LABELS)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (lambda x: x * 255, "sample 0: expected pixels in \\[0, 1\\] \\(or --full-scale V"),
        (lambda x: x.int(), "expected uint8, uint16, bool or floating point .*, found int32"),
        (lambda x: x[:0], "expected at least one sample, found none"),
        (lambda x: x[:, 0, 0, 0], "expected \\[N, ...\\], one sample a row"),
        (lambda x: x + 0j, "dense tensor of real numbers"),
        (lambda x: x.to_sparse(), "expected a dense tensor, found one of layout sparse_coo"),
        (lambda x: x[None, None], "expected \\[N, H, W\\]"),
        (lambda x: (x, LABELS[:3]), "labels: expected one for each of 8 images, found 3"),
        (lambda x: "nowhere", 'data "nowhere": expected `strokes`'),
        (lambda x: 7, "expected a tensor, a numpy array, a Dataset, a DataLoader or a path, found int"),
        (lambda x: Items(x, lambda image, label: {"a": image}), "expected one of image, images"),
        (lambda x: x[:, :, :6], "one that takes the data's images, 1x6x12"),
    ],
)
def test_data_that_are_wrong(conv, images, data, line):
    with pytest.raises((ValueError, FileNotFoundError), match=line) as raised:
        _score(conv, data(images))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("broken", [0, 2])
def test_a_data_set_that_fails_is_the_cause(conv, images, broken):
    def give(image, label):
        if label == broken:
            raise RuntimeError("a broken file")
        return image

    with pytest.raises(ValueError, match="samples that can be read, found RuntimeError: a broken file") as raised:
        _score(conv, Items(images, give))
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_stream_that_fails_is_the_cause(conv, images):
    class Broken(Stream):
        def __iter__(self):
            yield from super().__iter__()
            raise RuntimeError("a broken file")

    with pytest.raises(ValueError, match="samples that can be read, found RuntimeError: a broken file") as raised:
        _score(conv, Broken(images))
    assert isinstance(raised.value.__cause__, RuntimeError)
