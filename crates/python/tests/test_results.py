"""Results in memory and in files, pages and figures."""

import pytest
import torch

import pullback as pb

LABELS = torch.arange(8) % 2


def test_columns_by_path_and_name(conv, images):
    scores = pb.score(conv, (images, LABELS), top=1, quiet=True)
    assert torch.equal(scores["trace"], scores["/scores/trace"])
    assert torch.allclose(scores["trace"], scores.spectrum.sum(1))
    assert set(scores.scores) >= {"trace", "spectral_radius", "von_neumann_entropy"}
    assert "/spectrum/eigenvalues" in list(scores) and len(scores) == len(list(scores))
    with pytest.raises(KeyError, match="nonesuch: expected one of"):
        scores["nonesuch"]
    assert scores.attributes["metric"] == "stochastic" and scores.attributes["model"] == "Conv"
    assert pb.score(conv, images, quiet=True).directions is None


def test_frames(conv, images):
    pytest.importorskip("pandas")
    scores = pb.score(conv, (images, LABELS), quiet=True).frame()
    assert list(scores.columns[:2]) == ["index", "label"] and len(scores) == 8
    attacked = pb.attack(conv, images, attacks=["spectral", "random"], eps=[0.5, 1], quiet=True)
    frame = attacked.frame()
    assert len(frame) == 2 * 2 * 8 and {"attack", "eps", "latent_l2", "damage"} <= set(frame.columns)
    one = frame[(frame.attack == "random") & (frame.eps == 1.0)]
    assert one.latent_l2.tolist() == attacked.measure("random", "latent_l2")[1].tolist()


def test_files_are_results_too(conv, images, tmp_path, command):
    out = tmp_path / "scores.h5"
    written = pb.score(conv, images, out=out, top=1, quiet=True)
    again = pb.open(out)
    assert isinstance(again, pb.Scores) and torch.equal(again.directions, written.directions)
    command("report", out, "-o", "page.html")
    with pytest.raises(FileExistsError, match="scores.h5: expected"):
        pb.score(conv, images, out=out, quiet=True)
    pb.score(conv, images, out=out, force=True, metric="mean", quiet=True)
    assert pb.open(out).attributes["metric"] == "mean"
    kept = tmp_path / "kept.h5"
    pb.score(conv, images, quiet=True).save(kept)
    with pytest.raises(FileExistsError):
        written.save(kept)
    assert pb.open(kept).attributes["metric"] == "stochastic"


def test_a_saved_file_is_whole_or_not_there(conv, images, tmp_path, monkeypatch):
    first, second = pb.score(conv, images, quiet=True), pb.score(conv, images, metric="mean", quiet=True)
    path = tmp_path / "kept.h5"
    first.save(path)
    held = pb.open(path)
    second.save(path, force=True)
    # Another file of the same name, not other bytes in the file that is open.
    assert torch.equal(held["trace"], first["trace"]) and torch.equal(pb.open(path)["trace"], second["trace"])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    for name, force in (("kept.h5", True), ("new.h5", False)):
        with pytest.raises(OSError, match="No space left"):
            first.save(tmp_path / name, force=force)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["kept.h5"]
    second.save(path, force=True)
    monkeypatch.setattr("os.link", full)
    first.save(tmp_path / "new.h5")
    assert torch.equal(pb.open(tmp_path / "new.h5")["trace"], first["trace"])
    with pytest.raises(ValueError, match="found a folder"):
        first.save(tmp_path, force=True)
    (tmp_path / "link.h5").symlink_to(tmp_path / "nowhere.h5")
    with pytest.raises(FileExistsError):
        first.save(tmp_path / "link.h5")


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing there"):
        pb.open(tmp_path / "nowhere.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(ValueError, match="expected a result file"):
        pb.open(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError):
        pb.load(tmp_path / "nowhere")


def test_images_are_kept_in_memory_and_not_in_files_unless_asked_for(conv, images, tmp_path):
    options = {"attacks": ["spectral"], "eps": [0.5], "quiet": True}
    assert pb.attack(conv, images, **options).images["spectral"].shape == (1, 8, 1, 12, 12)
    assert pb.attack(conv, images, save_images=False, **options).images == {}
    assert pb.attack(conv, images, out=tmp_path / "a.h5", **options).images == {}
    assert pb.attack(conv, images, out=tmp_path / "b.h5", save_images=True, **options).reconstructions


def test_pages_and_figures(conv, images, tmp_path):
    scores = pb.score(conv, images, top=1, quiet=True)
    attacked = pb.attack(conv, images, attacks=["spectral", "random"], eps=[0.5, 1], quiet=True)
    pb.report([scores, attacked], tmp_path / "page.html")
    assert "<svg" in (tmp_path / "page.html").read_text()
    with pytest.raises(FileExistsError):
        pb.report(scores, tmp_path / "page.html")
    figure = pb.figure([scores, attacked])
    assert figure.svg.startswith("<svg") and "<style" in figure.svg and figure.title
    figure.save(tmp_path / "figure.svg")
    with pytest.raises(ValueError, match="figure: expected one of") as raised:
        pb.figure(scores, "nonesuch")
    name = str(raised.value).split("one of ")[1].split(",")[0]
    assert pb.figure(scores, name).name == name
    for shown in (scores, attacked, figure):
        assert shown._repr_html_().startswith("<iframe srcdoc=")


def test_a_temporary_file_goes_with_its_results(conv, images):
    scores = pb.score(conv, images, quiet=True)
    path = scores.path
    assert path.exists()
    del scores
    assert not path.exists()
