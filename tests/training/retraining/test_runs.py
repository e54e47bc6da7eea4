from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from accelerate.state import AcceleratorState
from filelock import FileLock

from newsie.bundles.bundle import Bundle, read_bundle, write_bundle
from newsie.data.articles import Article
from newsie.doctor.rewriting import check_target
from newsie.errors import BundleError, InputError, QualityGateError, ReadError, TrainingError
from newsie.inference.classifier import Classifier
from newsie.metrics.evaluation import softmax
from newsie.training.retraining.dataset import Sources, gather_material
from newsie.training.retraining.promotion import Limits
from newsie.training.retraining.retrain import Retrained, judge, retrain
from newsie.training.retraining.stages import (
    Depth,
    Plan,
    choose_depth,
    open_retraining,
    retrain_student,
    split_articles,
    with_own_answers,
)
from tests.tiny import COMMON, WORDS, tiny_articles, write_tiny_corpus, write_tiny_encoder
from tests.training.retraining.files import heard_by, write_rows, write_volume

Label = Callable[[Article], str]

LENIENT = Limits(max_fall=100, max_task_fall=100, min_agreement=0)
KILLS = int(os.environ.get("NEWSIE_KILLS", "2"))
"""How often the test kills a run; more take minutes."""


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def label(tiny_classifier: Classifier) -> Label:
    return heard_by(tiny_classifier)


@pytest.fixture
def file(tmp_path: Path, label: Label) -> Path:
    return write_volume(tmp_path / "ours.csv", 240, label=label)


def run(sources: Sources, base: Path, tmp_path: Path, **options: Any) -> Retrained:
    given: dict[str, Any] = {"depth": "quick", "limits": LENIENT, "runs": tmp_path / "runs"}
    output = tmp_path / "models" / "ours"
    return retrain(sources, output, base=read_bundle(base), **(given | options))


def test_a_quick_student_learns_a_new_task_and_keeps_the_others(
    file: Path, label: Label, tiny_bundle: Path, tmp_path: Path
) -> None:
    found = run(Sources(file), tiny_bundle, tmp_path, limits=Limits())
    old, bundle = read_bundle(tiny_bundle), found.bundle
    assert bundle.manifest.label_space.names == ("section", "mood", "category")
    assert bundle.manifest.lineage.parent == old.fingerprint
    assert bundle.manifest.lineage.data
    assert bundle.manifest.encoding == old.manifest.encoding
    assert bundle.manifest.metrics["promotion"]["promoted"]
    assert bundle.manifest.metrics["promotion"] == json.loads(json.dumps(found.promotion.to_json()))
    articles = tiny_articles(100, seed=5)
    before, after = (Classifier(b, threads=1) for b in (old, bundle))
    for task in ("section", "mood"):
        np.testing.assert_array_equal(before.logits(articles)[task], after.logits(articles)[task])
    right = [
        p.label("category") == label(a)
        for p, a in zip(after.classify(articles), articles, strict=True)
    ]
    assert np.mean(right) > 0.8  # a part of the noise is int8


def test_one_that_is_not_good_enough_is_not_there_unless_forced(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    # The last word tells the label. TF-IDF reads it; the student does not read that far.
    random = np.random.default_rng(0)
    rows = [
        (f"{' '.join(random.choice(COMMON.split(), 6))}", f"{' '.join(text)} {label}", label)
        for label in ("goals", "bonds")
        for text in random.choice(" ".join(WORDS.values()).split(), (100, 120))
    ]
    file = write_rows(tmp_path / "ours.csv", ("headline", "body", "category"), rows)
    with pytest.raises(QualityGateError, match=r"category: accuracy .* is below TF-IDF, "):
        run(Sources(file), tiny_bundle, tmp_path)
    assert not (tmp_path / "models").exists()
    found = run(Sources(file), tiny_bundle, tmp_path, force=True)
    assert found.promotion.failures
    assert not read_bundle(found.bundle.path).manifest.metrics["promotion"]["promoted"]


def test_a_known_task_is_extended_behind_its_labels(tiny_bundle: Path, tmp_path: Path) -> None:
    def section(article: Article) -> str:
        return "courts" if "!" in article.headline else str(article.labels.get("section", ""))

    file = write_volume(tmp_path / "ours.csv", 300, label=section, column="section")
    replay = write_tiny_corpus(tmp_path / "old.jsonl", 100, seed=3)
    found = run(
        Sources(file, ["section=section"], replay=[replay]), tiny_bundle, tmp_path, force=True
    )
    labels = found.bundle.manifest.label_space["section"].labels
    assert labels == ("business", "science", "sports", "courts")
    report = found.promotion.tasks
    assert report["section"].before is not None
    assert report["section"].labels["courts"].before is None
    assert report["mood"].before is not None  # measured on the old articles that were held out
    assert report["mood"].change is not None
    assert report["mood"].change.value == 0
    assert "category" not in found.bundle.manifest.label_space.names


def answers(bundle: Bundle, articles: list[Article]) -> list[str]:
    return [p.label("desk") for p in Classifier(bundle, threads=1).classify(articles)]


@pytest.fixture
def sure(tiny_classifier: Classifier, tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A student that is sure of its answers to "desk": those of the tiny one to "section"."""

    def desk(article: Article) -> str:
        [prediction] = tiny_classifier.classify([article], tasks=["section"])
        return prediction.label("section")

    file = write_volume(tmp_path / "desks.csv", 600, label=desk, column="desk")
    given: dict[str, Any] = {"depth": "quick", "runs": tmp_path / "runs", "force": True}
    output = tmp_path / "models" / "sure"
    return retrain(Sources(file), output, base=read_bundle(tiny_bundle), **given).bundle


@pytest.fixture
def lacking(sure: Bundle, tmp_path: Path) -> Path:
    """Articles with the answers of the student that is sure, but none that it calls business."""
    articles = tiny_articles(400, seed=3)
    rows = [
        (a.id, a.headline, a.body, desk)
        for a, desk in zip(articles, answers(sure, articles), strict=True)
        if desk != "business"
    ]
    return write_rows(tmp_path / "lacking.csv", ("id", "headline", "body", "desk"), rows)


@pytest.mark.parametrize(
    "depth",
    [
        "quick",
        pytest.param("student", marks=pytest.mark.slow),
        pytest.param("full", marks=pytest.mark.slow),
    ],
)
def test_a_label_that_the_file_lacks_is_not_unlearnt(
    depth: Depth, lacking: Path, sure: Bundle, tmp_path: Path
) -> None:
    encoder = str(write_tiny_encoder(tmp_path / "encoder", "distilbert"))
    found = run(Sources(lacking), sure.path, tmp_path, depth=depth, encoder=encoder, force=True)
    articles = tiny_articles(300, seed=7)
    pairs = zip(answers(sure, articles), answers(found.bundle, articles), strict=True)
    kept = [now for was, now in pairs if was == "business"]
    assert len(kept) > 50
    assert kept.count("business") > 0.8 * len(kept)


def test_a_file_to_test_on_and_texts_without_labels(
    file: Path,
    label: Label,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    test = write_volume(tmp_path / "test.csv", 50, seed=8, label=label)
    texts = write_rows(tmp_path / "texts.csv", ("headline",), [("the goal says new",)] * 3)
    found = run(Sources(file, test=test, unlabelled=[texts]), tiny_bundle, tmp_path)
    assert "--unlabelled: not learnt from, as only heads are fitted" in capsys.readouterr().err
    assert "ours-unlabelled" not in (found.bundle.path / "README.md").read_text(encoding="utf-8")
    report = found.promotion.tasks["category"].after
    assert report is not None
    assert report.support == 50
    other = write_volume(tmp_path / "other.csv", 50, label=lambda a: "a" if a.body else "b")
    with pytest.raises(
        ReadError, match=r"no row has a label of the task 'category' that is learnt"
    ):
        run(Sources(file, test=other), tiny_bundle, tmp_path)


def test_old_articles_without_old_labels(file: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no gold label of the tasks that the base has.*--unl"
    ):
        run(Sources(file, replay=[file]), tiny_bundle, tmp_path)
    with pytest.raises(ReadError, match="there is no such file"):
        run(Sources(file, replay=[tmp_path / "none.csv"]), tiny_bundle, tmp_path)


def test_what_a_file_is_for_counts(file: Path, tmp_path: Path) -> None:
    old = write_tiny_corpus(tmp_path / "old.jsonl", 20)
    ways = [Sources(file, replay=[old]), Sources(file, unlabelled=[old]), Sources(file, test=old)]
    assert len({sources.fingerprint() for sources in ways}) == 3


def test_few_articles_are_refused_in_the_words_of_a_newsroom(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    texts = [("the goal says new", "a"), ("the bank says old", "b")] * 4
    file = write_rows(tmp_path / "ours.csv", ("headline", "category"), texts)
    with pytest.raises(InputError, match=r"too few different articles .* --test FILE"):
        run(Sources(file), tiny_bundle, tmp_path)


def test_a_file_to_test_on_that_is_the_file_itself(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="those that --test has, too, are not learnt from"):
        run(Sources(file, test=file), tiny_bundle, tmp_path)


def test_heads_to_begin_with_know_nothing_of_the_articles_that_choose(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    base = read_bundle(tiny_bundle)
    material = gather_material(Sources(file), base, tmp_path / "runs", say=lambda _text: None)
    quick, student = (
        open_retraining(material, base, Plan("ours", depth), runs=tmp_path / "runs")
        for depth in ("quick", "student")
    )
    ids = {a.id for a in split_articles(student.corpora, student.head_splits)}
    chosen_on = {article.id for article in student.corpora.articles("validation")}
    assert chosen_on
    assert not ids & chosen_on
    on_quick = {a.id for a in split_articles(quick.corpora, quick.head_splits)}
    assert on_quick == ids | chosen_on
    assert len(student.learnt) == len(ids | chosen_on)


def test_another_bundle_is_not_written_over(
    file: Path, label: Label, tiny_bundle: Path, tmp_path: Path
) -> None:
    first = run(Sources(file), tiny_bundle, tmp_path).bundle
    with pytest.raises(
        InputError, match="is the base itself, and what it was retrained from is not"
    ):
        retrain(Sources(file), first.path, base=first, runs=tmp_path / "runs")
    assert [corpus["name"] for corpus in first.manifest.lineage.recipe["data"]["corpora"]] == [
        "ours-file"
    ]
    assert run(Sources(file), tiny_bundle, tmp_path).bundle.fingerprint == first.fingerprint
    more = write_volume(tmp_path / "more.csv", 300, label=label)
    with pytest.raises(BundleError, match="holds another bundle, which is kept to roll back to"):
        run(Sources(more), tiny_bundle, tmp_path)
    (tmp_path / "models" / "notes").mkdir()
    with pytest.raises(BundleError, match="is there and is not a bundle"):
        retrain(Sources(file), tmp_path / "models" / "notes", base=first, runs=tmp_path / "runs")


def test_only_one_retraining_at_a_time_in_a_folder(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "ours"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        with pytest.raises(TrainingError, match="another newsie is at work in"):
            run(Sources(file), tiny_bundle, tmp_path)
        assert [path.name for path in folder.iterdir()] == [".lock"]  # not even the files are read
    run(Sources(file), tiny_bundle, tmp_path)


def test_a_base_of_another_version(file: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    import hashlib

    newer = tmp_path / "newer"
    shutil.copytree(tiny_bundle, newer)
    content = json.loads((newer / "newsie.json").read_text())
    content.pop("sha256")
    text = json.dumps(content | {"format_version": 9}, indent=2).removesuffix("\n}").encode()
    seal = f',\n  "sha256": "{hashlib.sha256(text).hexdigest()}"\n}}\n'.encode()
    (newer / "newsie.json").write_bytes(text + seal)
    with pytest.raises(BundleError, match=r"of format 9; this Newsie .* install a newer Newsie"):
        run(Sources(file), newer, tmp_path)


def test_a_full_disk_says_what_to_do(file: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(TrainingError, match=r"the disk is full .* free some space"):
            run(Sources(file), tiny_bundle, tmp_path, runs=disk / "runs")
        assert not (tmp_path / "models").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_is_read_only_is_told_before_the_work(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "models"
    disk.mkdir(mode=0o555)
    if os.access(disk, os.W_OK):  # root: only a whole file system is read-only
        command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(InputError, match=r"ours cannot be written: .*models is read-only"):
            run(Sources(file), tiny_bundle, tmp_path)
        assert not (tmp_path / "runs").exists()
        with pytest.raises(InputError, match=r"clean.csv cannot be written: .*models is read-only"):
            check_target(file, disk / "clean.csv")
    finally:
        subprocess.run(["umount", str(disk)], check=False, capture_output=True)


def test_a_file_in_the_path_of_the_target_is_told_before_the_work(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match=r"ours cannot be written: .*models is not a folder"):
        run(Sources(file), tiny_bundle, tmp_path)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be written: .*runs is not a folder"):
        run(Sources(file), tiny_bundle, tmp_path / "other", runs=tmp_path / "runs")
    with pytest.raises(InputError, match=r"clean.csv cannot be written: there is no folder"):
        check_target(file, tmp_path / "missing" / "clean.csv")


def test_a_rare_label_that_is_neither_measured_nor_predicted_is_told(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    # The rare label is drawn by chance, and all four articles that have it are learnt from.
    articles = tiny_articles(300)
    rare = {11, 12, 101, 250}
    rows = [
        (a.id, a.headline, a.body, "y" if number in rare else "x")
        for number, a in enumerate(articles)
    ]
    file = write_rows(tmp_path / "ours.csv", ("id", "headline", "body", "category"), rows)
    found = run(Sources(file), tiny_bundle, tmp_path, force=True)
    report = found.promotion.tasks["category"]
    assert (report.unmeasured, report.silent) == (("y",), ("y",))
    table = found.promotion.table().splitlines()
    assert (
        "category: macro-F1 is over 1 of 2 labels; not measured, without a test article: y" in table
    )
    assert (
        "category: never predicted, not even for the articles that it was learnt from: y" in table
    )
    card = (found.bundle.path / "README.md").read_text(encoding="utf-8")
    assert "never predicted, not even" in card


@pytest.mark.slow
def test_a_quick_student_is_kept_where_a_deeper_one_ends_below_it(
    file: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = run(Sources(file), tiny_bundle, tmp_path, depth="student", force=True)
    shutil.rmtree(deeper.bundle.path)
    [fitted] = (tmp_path / "runs" / "ours").glob("**/bundle-*/newsie.json")
    write_inverted(read_bundle(fitted.parent))
    AcceleratorState._reset_state(True)
    capsys.readouterr()
    found = run(Sources(file), tiny_bundle, tmp_path, depth="student", force=True)
    assert found.depth == "quick"
    assert "--student ends below --quick: " in capsys.readouterr().err
    assert found.bundle.manifest.lineage.recipe["retrained"]["depth"] == "quick"
    report = found.promotion.tasks["category"].after
    assert report is not None
    assert report.accuracy > 0.5


def write_inverted(bundle: Bundle) -> None:
    """Write a bundle over itself that predicts the least likely category."""
    model = onnx.load(bundle.model_path)
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "category" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["raw"], ["category"]))
    manifest = bundle.manifest
    write_bundle(
        bundle.path,
        name=manifest.name,
        label_space=manifest.label_space,
        encoding=manifest.encoding,
        calibration=manifest.calibration,
        model=model.SerializeToString(),
        tokenizer=bundle.tokenizer_path.read_text("utf-8"),
        card="# inverted\n",
        lineage=manifest.lineage,
        replace=True,
    )


def test_scratch_is_on_the_disk_of_the_runs(
    file: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))  # nothing can be written there
    run(Sources(file), tiny_bundle, tmp_path)
    assert not list((tmp_path / "runs" / "ours").glob(".*scratch"))


def test_depth_goes_with_the_number_of_articles() -> None:
    assert [choose_depth(n) for n in (64, 999, 1_000, 60_000)] == [
        "quick",
        "quick",
        "student",
        "full",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("depth", ["student", "full"])
def test_deeper_students_learn_and_keep(
    depth: Depth, file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    encoder = write_tiny_encoder(tmp_path / "encoder", "distilbert")
    base = read_bundle(tiny_bundle)
    material = gather_material(Sources(file), base, tmp_path, say=lambda _text: None)
    plan = Plan("ours", depth, str(encoder))
    retraining = open_retraining(material, base, plan, runs=tmp_path / "runs")
    student = retrain_student(retraining)  # also where `retrain` would keep the quick student
    report = judge(retraining, student, Limits(min_agreement=0.8)).tasks
    assert report["category"].after is not None
    assert report["category"].after.accuracy > 0.8
    assert report["section"].agreement is not None
    assert report["section"].agreement.value > 0.8
    assert report["mood"].agreement is not None
    assert report["mood"].agreement.value < 1  # the whole student was fitted
    lineage = student.manifest.lineage
    assert lineage.teacher
    assert lineage.recipe["retrained"] == {"depth": depth, "tasks": ["category"]}
    calibration = student.manifest.calibration
    assert calibration["section"] == base.manifest.calibration["section"]


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_bundle(
    file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    def start(place: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "newsie", "retrain", str(file), "--student", "--force"]
        command += ["-o", str(place / "ours"), "--runs", str(place / "runs")]
        environment = {"NEWSIE_MODEL": str(tiny_bundle), "SOURCE_DATE_EPOCH": "0"}
        return subprocess.Popen(
            command,
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    def content(directory: Path) -> dict[str, Any]:
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        manifest = json.loads(files["newsie.json"])
        del manifest["lineage"]["commit"], manifest["sha256"]  # the checkout may move on meanwhile
        return {**files, "newsie.json": manifest}

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - began
    wanted = content(tmp_path / "whole" / "ours")
    random = np.random.default_rng(int(os.environ.get("NEWSIE_SEED", "0")))
    for number, share in enumerate(random.uniform(0.2, 1.0, KILLS)):
        place = tmp_path / f"killed-{number}"
        process = start(place)
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (place / "ours").exists():
            assert content(place / "ours") == wanted  # there whole, or not at all
        assert start(place).wait() == 0
        assert content(place / "ours") == wanted
        assert not list(place.glob(".ours*"))


def test_a_teacher_says_nothing_of_labels_that_it_has_not_met() -> None:
    random = np.random.default_rng(0)
    teacher, own = (random.normal(size=(5, 4)).astype(np.float16) for _ in range(2))
    teacher[:, 1] = -9
    merged = with_own_answers(teacher, own, [1])
    p, q, theirs = (softmax(x.astype(np.float64)) for x in (merged, own, teacher))
    np.testing.assert_allclose(p[:, 1], q[:, 1], atol=2e-3)
    met = [0, 2, 3]
    np.testing.assert_allclose(
        p[:, met] / p[:, met].sum(1, keepdims=True),
        theirs[:, met] / theirs[:, met].sum(1, keepdims=True),
        atol=2e-3,
    )
    assert with_own_answers(teacher, own, []) is teacher


def test_a_word_in_every_text_does_not_keep_the_baseline_from_its_end(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    drawn = np.random.default_rng(0)
    rows = [
        (f"live {' '.join(f'w{word}' for word in drawn.integers(2_000, size=8))}", label)
        for label, count in {"a": 90, "b": 60, "c": 25, "d": 10}.items()
        for _ in range(count)
    ]
    file = write_rows(tmp_path / "ours.csv", ("headline", "category"), rows)
    found = run(Sources(file), tiny_bundle, tmp_path, force=True)  # a warning would be an error
    assert found.promotion.tasks["category"].baseline is not None
