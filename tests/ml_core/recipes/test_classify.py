"""Classification: what it makes, scikit-learn's accuracy, when it shows nothing, and that a stopped run is the same."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ml_core.errors import Stopped, UserError
from ml_core.job.inputs import Inputs, Slot
from ml_core.models import encoders
from ml_core.models.linear_classifier import Classifier, classifier_from
from ml_core.models.unet import Segmenter
from ml_core.recipes import classify
from ml_core.runtime import weights
from ml_core.runtime.training_loop import open_context
from ml_core.specs import ClassifySpec, from_preset
from tests.ml_core.reporters import Heard
from tests.ml_core.textures import write_textures, write_tones

pytestmark = pytest.mark.slow  # runs networks: seconds each

SMALL: dict[str, Any] = {
    "architecture": "resnet18",
    "image_size": 32,
    "standardise": True,
    "optimizer": "lbfgs",
    "epochs": 4,
    "points_every": 1,
    "threads": 1,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of three classes that grey values cannot tell apart."""
    return write_textures(tmp_path_factory.mktemp("textures") / "set", each=20, side=32)


@pytest.fixture(scope="module")
def features_of_textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs of this module keep what they prepare, so that few of them compute features."""
    return tmp_path_factory.mktemp("prepared")


def _classify(
    folder: Path,
    images: Path,
    *,
    heard: Heard | None = None,
    files: dict[str, Path] | None = None,
    prepared: Path | None = None,
    spec: ClassifySpec | None = None,
    **given: Any,
) -> Heard:
    heard = heard or Heard()
    folder.mkdir(exist_ok=True)
    slots = {"dataset": Slot("dataset", {"folder": str(images)})}
    slots |= {name: Slot(name, {"path": str(path)}) for name, path in (files or {}).items()}
    inputs = Inputs(prepared=prepared or folder / "prepared", slots=slots)
    spec = spec or ClassifySpec(**{**SMALL, **given})
    classify.run(open_context(spec, inputs=inputs, folder=folder, reporter=heard))
    return heard


def _artifact(heard: Heard, name: str) -> tuple[Path, dict[str, Any]]:
    [found] = [(path, facts) for _, path, facts in heard.artifacts if path.name == name]
    return found


def _rows(heard: Heard) -> list[dict[str, str]]:
    with open(_artifact(heard, "predictions.csv")[0], newline="") as file:
        return list(csv.DictReader(file))


def test_it_tells_textures_apart_that_grey_values_do_not(
    tmp_path: Path, textures: Path, features_of_textures: Path
) -> None:
    heard = _classify(tmp_path / "out", textures, prepared=features_of_textures)
    figures = heard.figures
    assert figures["accuracy"] > 0.7
    assert figures["grey_accuracy"] < figures["accuracy"] - 0.2
    assert figures["chance"] == pytest.approx(1 / 3)
    assert (figures["shows_nothing"], figures["verdict"]) == (False, None)
    assert (figures["part"], figures["images"], figures["features"]) == ("test", 12, 512)
    assert figures["accuracy_interval"][0] <= figures["accuracy"] <= figures["accuracy_interval"][1]
    # The table says the same as the figures.
    judged = [row for row in _rows(heard) if row["part"] == "test"]
    assert figures["accuracy"] == pytest.approx(np.mean([row["label"] == row["predicted"] for row in judged]))
    counts = np.array(figures["confusion"]["counts"])
    assert counts.sum() == 12
    for number, row in enumerate(figures["per_class"]):
        own = [r for r in judged if r["label"] == row["label"]]
        assert row["support"] == len(own) == counts[number].sum()
        assert row["recall"] == pytest.approx(np.mean([r["predicted"] == row["label"] for r in own]))
    assert list(heard.curve("accuracy/validation")) == list(heard.curve("loss/train")) == list(range(1, 29))


def test_the_classifier_kept_gives_the_very_probabilities_of_the_table(
    tmp_path: Path, textures: Path, features_of_textures: Path
) -> None:
    heard = _classify(tmp_path / "out", textures, prepared=features_of_textures)
    path, facts = _artifact(heard, "classifier.safetensors")
    wanted = {"architecture": "resnet18", "channels": 3, "origin": "random", "image_size": 32}
    wanted |= {"classes": ["checks", "lying", "standing"]}
    assert {name: facts[name] for name in wanted} == wanted
    classifier = classifier_from(weights.load(path), source=path.name)
    for row in _rows(heard)[::10]:
        grey = torch.from_numpy(np.asarray(Image.open(textures / row["name"])).copy())[None, None].float() / 255
        with torch.inference_mode():
            found = classifier(grey).softmax(dim=1)[0]
        assert found.numpy() == pytest.approx([float(row[f"p({name})"]) for name in facts["classes"]], abs=1e-4)


def test_accuracy_is_scikit_learns_on_the_same_features_within_half_a_point(tmp_path: Path) -> None:
    images = write_textures(tmp_path / "set", each=120, side=32, noise=90, seed=5)
    heard = _classify(tmp_path / "out", images, epochs=20)
    assert 0.5 < heard.figures["accuracy"] < 0.95, "neither hopeless nor trivial"
    [path] = (tmp_path / "out" / "prepared").glob("features-*.npy")
    x, rows = np.load(path), _rows(heard)
    part = np.array([row["part"] for row in rows])
    y = np.array([row["label"] for row in rows])
    train = x[part == "train"]
    x = (x - train.mean(axis=0)) / np.where(train.std(axis=0) > 0, train.std(axis=0), 1)
    c = 1 / (heard.figures["weight_decay"] * len(train))
    oracle = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(x[part == "train"], y[part == "train"])
    judged = part == "test"
    assert heard.figures["accuracy"] == pytest.approx(oracle.score(x[judged], y[judged]), abs=0.005)
    ours = np.array([[float(row[f"p({name})"]) for name in oracle.classes_] for row in rows])
    assert np.abs(ours - oracle.predict_proba(x)).max() < 0.02


def test_a_task_that_grey_values_solve_is_said_to_show_nothing(tmp_path: Path) -> None:
    heard = _classify(tmp_path / "out", write_tones(tmp_path / "set", each=15, side=32))
    assert heard.figures["grey_accuracy"] == 1
    assert heard.figures["shows_nothing"] is True
    assert "shows nothing about the encoder" in heard.figures["verdict"]
    assert ("warning", heard.figures["verdict"]) in heard.notes
    assert not [path for kind, path, _ in heard.artifacts if kind == "mistakes"], "there are no mistakes to show"


def test_labels_at_random_are_said_to_show_nothing_and_mistakes_are_shown(tmp_path: Path, textures: Path) -> None:
    """Pictures of one class under two names: nobody can tell them apart."""
    images = tmp_path / "set"
    for number, path in enumerate(sorted((textures / "lying").iterdir()) + sorted((textures / "checks").iterdir())):
        target = images / "ab"[number % 2] / f"{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    heard = _classify(tmp_path / "out", images, epochs=1)
    assert heard.figures["shows_nothing"] is True
    wrong = [row for row in _rows(heard) if row["part"] == "test" and row["label"] != row["predicted"]]
    assert [m["name"] for m in heard.figures["mistakes"]] == [
        row["name"] for row in sorted(wrong, key=lambda row: -float(row["confidence"]))
    ]
    path, facts = _artifact(heard, "mistakes.png")
    assert set(facts["items"]) <= {int(row["item"]) for row in wrong}
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 12


def test_the_papers_way_is_adam_on_bare_features(tmp_path: Path, textures: Path, features_of_textures: Path) -> None:
    paper = from_preset("classify", "paper")
    assert isinstance(paper, ClassifySpec)
    assert (paper.learning_rate, paper.standardise, paper.optimizer, paper.split) == (3e-4, False, "adam", "random")
    small = {"architecture": "resnet18", "image_size": 32, "epochs": 3, "regression_batch": 16, "threads": 1}
    spec = from_preset("classify", "paper", **small, points_every=1)
    assert isinstance(spec, ClassifySpec)
    heard = _classify(tmp_path / "out", textures, prepared=features_of_textures, spec=spec)
    assert list(heard.curve("loss/train")) == list(range(1, 10)), "42 images make 3 batches of 16"
    assert list(heard.curve("loss/validation")) == [3, 6, 9]
    losses = heard.curve("loss/validation")
    assert heard.figures["best_step"] == min(losses, key=losses.__getitem__)
    assert "weight_decay" not in heard.figures


def test_features_are_computed_once_for_all_jobs_on_the_same_encoder(
    tmp_path: Path, textures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _classify(tmp_path / "one", textures, prepared=tmp_path / "prepared")

    def never(*_: object) -> None:
        raise AssertionError("features are computed again")

    monkeypatch.setattr(Classifier, "features", never)
    again = _classify(tmp_path / "two", textures, prepared=tmp_path / "prepared")
    assert again.points == first.points
    with pytest.raises(AssertionError, match="computed again"):
        _classify(tmp_path / "three", textures, prepared=tmp_path / "prepared", seed=1)


def test_the_same_seed_says_the_same(tmp_path: Path, textures: Path) -> None:
    first = _classify(tmp_path / "one", textures)
    torch.rand(3)
    again = _classify(tmp_path / "two", textures)
    assert first.points == again.points
    assert first.figures == again.figures
    assert first.notes == again.notes
    contents = [[path.read_bytes() for _, path, _ in heard.artifacts] for heard in (first, again)]
    assert contents[0] == contents[1]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder that sees one channel, with a mean and deviation of its own."""
    torch.manual_seed(3)
    kept = weights.Encoder(
        tensors=encoders.build("resnet18", channels=1).state_dict(),
        architecture="resnet18",
        channels=1,
        mean=(0.4,),
        deviation=(0.2,),
        facts={"origin": "byol-colour"},
    )
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    weights.save_encoder(path, kept)
    return path


def test_a_given_encoder_is_judged_as_it_is_and_sees_as_it_was_trained(
    tmp_path: Path, textures: Path, encoder: Path
) -> None:
    heard = _classify(tmp_path / "out", textures, files={"encoder": encoder}, architecture="resnet50")
    path, facts = _artifact(heard, "classifier.safetensors")
    assert (facts["architecture"], facts["channels"], facts["mean"]) == ("resnet18", 1, [0.4])
    assert facts["origin"] == heard.figures["origin"] == "byol-colour"
    after = weights.load(path).tensors
    for name, tensor in weights.load_encoder(encoder).tensors.items():
        assert torch.equal(after[f"encoder.{name}"], tensor), name


@pytest.mark.parametrize(("architecture", "channels", "width"), [("resnet18", 3, 512), ("casser", 1, 256)])
def test_the_encoder_of_a_segmentation_model_is_judged_with_its_own_width(
    tmp_path: Path, textures: Path, architecture: str, channels: int, width: int
) -> None:
    torch.manual_seed(2)
    tone = {"mean": [0.45] * channels, "deviation": [0.15] * channels}
    segmenter = Segmenter(architecture=architecture, classes=2, **tone)
    path = tmp_path / "segmenter.safetensors"
    facts = {"architecture": architecture, "classes": [0, 255], "origin": "random", "decoder": "unet", **tone}
    weights.save(path, segmenter.network.state_dict(), facts=facts)
    heard = _classify(tmp_path / "out", textures, files={"segmenter": path})
    kept = weights.load(_artifact(heard, "classifier.safetensors")[0])
    assert heard.figures["features"] == kept.tensors["linear.weight"].shape[1] == width
    assert kept.facts["mean"] == pytest.approx(tone["mean"])
    assert heard.figures["origin"].startswith("segmentation")
    for name, tensor in segmenter.network.encoder.state_dict().items():
        assert torch.equal(kept.tensors[f"encoder.{name}"], tensor)


def test_an_encoder_and_a_segmentation_model_at_once_are_refused(tmp_path: Path, textures: Path, encoder: Path) -> None:
    assert [r.field for r in ClassifySpec().lacking(["dataset", "encoder", "segmenter"])] == ["segmenter"]
    with pytest.raises(UserError, match="not both"):
        _classify(tmp_path, textures, files={"encoder": encoder, "segmenter": encoder})


def test_an_encoder_is_not_taken_for_a_classifier(encoder: Path) -> None:
    with pytest.raises(UserError, match=r"does not say its classes.*Choose the artifact"):
        classifier_from(weights.load(encoder), source=encoder.name)


def test_a_stop_while_features_are_computed_loses_none_of_them(
    tmp_path: Path, textures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "PIXELS", 10 * 32 * 32)
    asked: list[int] = []
    plain = Classifier.features

    class StopsAfterTwo(Heard):
        def progress(self, done: int, total: int, unit: str, *, stage: str = "") -> None:
            self.stop = stage == "Computing features" and done >= 20

    monkeypatch.setattr(Classifier, "features", lambda self, grey: asked.append(len(grey)) or plain(self, grey))
    with pytest.raises(Stopped, match="20 of 60 images"):
        _classify(tmp_path / "out", textures, heard=StopsAfterTwo())
    assert asked == [10, 10]
    stopped = _classify(tmp_path / "out", textures)
    assert asked == [10] * 6
    assert stopped.points == _classify(tmp_path / "whole", textures).points


def test_l_bfgs_is_not_extended(tmp_path: Path, textures: Path) -> None:
    inputs = Inputs(prepared=tmp_path, extend=tmp_path, slots={"dataset": Slot("dataset", {"folder": str(textures)})})
    context = open_context(ClassifySpec(**SMALL), inputs=inputs, folder=tmp_path, reporter=Heard())
    with pytest.raises(UserError, match="already converged"):
        classify.run(context)


class _StopsAt(Heard):
    """Asks for an end at the first loss that is said of a step that is not before `step`."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def point(self, name: str, step: int, value: float, **window: Any) -> None:
        super().point(name, step, value, **window)
        self.stop = self.stop or step >= self._step


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_stopped_twice_it_ends_with_the_same_weights_the_same_curve_and_the_same_figures(
    tmp_path: Path, textures: Path, features_of_textures: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ml_core.runtime.training_loop.DRAIN_SECONDS", 0
    )  # points are said at once, so that a stop comes when told
    given = {"optimizer": optimizer, "epochs": 6, "regression_batch": 10, "prepared": features_of_textures}
    whole = _classify(tmp_path / "whole", textures, **given)
    said: list[tuple[Any, ...]] = []
    for step in (4, 17):
        heard = _StopsAt(step)
        with pytest.raises(Stopped):
            _classify(tmp_path / "parts", textures, heard=heard, **given)
        assert heard.checkpoints[-1][0] == step + 1, "the wish is heard after the next step"
        said += heard.points
    last = _classify(tmp_path / "parts", textures, **given)
    assert last.records["resumed_step"] == 18
    assert said + last.points == whole.points
    assert last.figures == whole.figures
    first, again = (_artifact(heard, "classifier.safetensors")[0].read_bytes() for heard in (whole, last))
    assert first == again


def test_real_micrographs_of_three_kinds_are_told_apart_as_scikit_learn_does(tmp_path: Path, real_data: Path) -> None:
    """Human cells, fruit fly tissue by FIB-SEM and by ssTEM: here the microscope alone gives the class away."""
    for name, source in {
        "hela": "hela_human_patches/images",
        "fly_fibsem": "fly_medulla_fibsem/images",
        "fly_sstem": "isbi2012_mito/images",
    }.items():
        for path in sorted((real_data / source).iterdir())[:30]:
            target = tmp_path / "set" / name / f"{path.stem.replace('.', '-')}x{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    heard = _classify(tmp_path / "out", tmp_path / "set", image_size=64)
    assert {row["label"] for row in heard.figures["per_class"]} == {"hela", "fly_fibsem", "fly_sstem"}
    assert heard.figures["accuracy"] >= heard.figures["chance"]
    assert 0 <= heard.figures["grey_accuracy"] <= 1
