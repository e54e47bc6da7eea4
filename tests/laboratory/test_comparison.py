from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from newsie.errors import RecipeError
from newsie.laboratory.arms import ARMS, DEFAULT, build_arms
from newsie.laboratory.bench import Bench, same_steps
from newsie.laboratory.comparison import compare
from newsie.training.config import FitConfig
from newsie.training.experiment import CompareConfig
from newsie.training.pipeline import Pipeline
from tests.laboratory.tiny_experiment import tiny_recipe

SMALL = CompareConfig(
    seeds=2,
    labelled=96,
    transfer=96,
    test=80,
    attacked=16,
    arms=["gold", "hard", "soft", DEFAULT, "soft, more text"],
    sweeps={"temperature": [1, 4]},
)


@pytest.mark.slow
def test_a_comparison_is_complete_says_so_and_goes_on_where_it_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(tiny_recipe(data), data=data, runs=tmp_path)
    findings = compare(pipeline, SMALL, tmp_path, "newsie compare tiny.toml -o DIR")
    names = ["teacher", *SMALL.arms, "temperature 1", "temperature 4"]
    assert [arm.name for arm in findings.arms] == names
    students = findings.arms[1:]
    assert {arm.steps for arm in students} == {12}  # 2 epochs of 96 articles in batches of 16
    assert [arm.articles for arm in students] == [96] * 4 + [192] + [96] * 2
    assert all(set(arm.by_task) == {"section", "mood"} for arm in findings.arms)
    assert all(arm.cost and arm.cost.megabytes > 0 for arm in students)
    assert all(0 <= arm.agreement <= 1 for arm in students)
    assert findings.arm("gold").attacks.keys() == findings.arm("soft").attacks.keys() != set()
    pairs = {(c.first, c.second) for c in findings.contrasts}
    assert {("soft", "hard"), ("soft", "gold"), ("soft, more text", "soft")} <= pairs

    raw = json.loads((tmp_path / "compare.json").read_text())
    assert raw["sentences"] == findings.sentences()
    assert {c["verdict"] for c in raw["contrasts"]} <= {
        "holds",
        "does not hold",
        "too close to call",
    }
    text = (tmp_path / "compare.md").read_text()
    assert "Soft labels" in text
    assert "| temperature 4 |" in text
    for figure in ("students", "differences", "temperature"):
        assert (tmp_path / f"compare-{figure}.png").stat().st_size > 5_000
        assert (tmp_path / f"compare-{figure}.svg").exists()

    # Weights are gone, answers are kept: a third seed makes its own students only.
    folders = [p.name.rsplit("-", 1)[0] for p in (tmp_path / "tiny").iterdir() if p.is_dir()]
    assert folders.count("trial") == 2 * (1 + len(students))
    assert "student" not in folders
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tiny").glob("t*/**/*") if p.is_file()}
    again = Pipeline(tiny_recipe(data), data=data, runs=tmp_path)
    assert compare(again, SMALL, tmp_path, "").arms[1].scores == findings.arms[1].scores
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "tiny").glob("t*/**/*") if p.is_file()}
    assert after == before


def test_labels_that_an_arm_must_not_know_are_hidden(data: Path, tmp_path: Path) -> None:
    bench = Bench(Pipeline(tiny_recipe(data), data=data, runs=tmp_path), SMALL)
    [arm] = [a for a in build_arms(tiny_recipe(data), SMALL, 2) if a.name == "soft, more text"]
    rows = bench.rows(0, arm.labelled, arm.transfer)
    assert len(set(rows.tolist())) == 192
    assert (bench.labelled(0, arm) == rows[:96]).all()
    assert set(bench.rows(0, 48, 0)) < set(bench.rows(0, 96, 0))
    assert set(bench.rows(0, 96, 0)) != set(bench.rows(1, 96, 0))
    targets = bench.pipeline.corpora.targets("train")
    assert all(any(column[row] >= 0 for column in targets.values()) for row in rows[:96])
    learnt = bench._student_set(arm, 0, rows)
    assert all((column[96:] < 0).all() for column in learnt.labels.values())
    assert learnt.soft is not None
    assert learnt.soft["full"]["section"].shape == (192, 3)


def test_a_hotter_teacher_is_one_of_smaller_logits(data: Path, tmp_path: Path) -> None:
    config = CompareConfig(labelled=48, arms=[DEFAULT, "two temperatures"])
    bench = Bench(Pipeline(tiny_recipe(data), data=data, runs=tmp_path), config)
    default, hotter = build_arms(tiny_recipe(data), config, 2)
    rows = bench.rows(0, 48, 0)
    one, two = (bench._student_set(arm, 0, rows).soft for arm in (default, hotter))
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one["full"]["section"] / 2, two["full"]["section"], atol=2e-3)


def test_arms_differ_from_the_recipe_in_what_their_name_says(data: Path) -> None:
    recipe = tiny_recipe(data)
    config = CompareConfig(
        transfer=10, arms=list(ARMS), sweeps={"layers": [1, 2], "labelled": [32]}
    )
    arms = {arm.name: arm for arm in build_arms(recipe, config, 2)}
    assert arms[DEFAULT].student == recipe.student
    assert arms["gold"].student.distillation.alpha == 1
    assert arms["hard"].student.distillation.loss == "top"
    assert arms["headline privileged"].view == "headline"
    assert arms["headline privileged"].student.teacher_view == "full"
    assert arms["self"].student.layers == 2
    assert arms["soft, more text"].transfer == 10
    assert arms["layers 2"].student.layers == 2
    assert arms["labelled 32"].labelled == arms["labelled 32, gold"].labelled == 32


def test_equally_many_steps_whatever_the_number_of_articles() -> None:
    config = FitConfig(epochs=3, batch_size=16)
    for articles in (100, 1_000, 999):
        steps = round(same_steps(config, articles, 100).epochs * -(-articles // 16))
        assert steps == 21


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["softt"]}, r"compare\.arms names \['softt'\]; there are: gold, hard"),
        ({"arms": ["soft, more text"]}, r"set compare\.transfer above 0"),
        ({"labelled": 10_000}, r"wants 10,000 labelled articles; there are \d+"),
        ({"labelled": 300, "sweeps": {"transfer": [200]}}, r"wants 500 articles.*there are 3\d\d"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_fitted(
    data: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    pipeline = Pipeline(tiny_recipe(data), data=data, runs=tmp_path)
    config = CompareConfig(**{"arms": ["soft"], **changes})  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=message):
        compare(pipeline, config, tmp_path, "")
    assert not list(tmp_path.glob("tiny/teacher-*"))


def test_a_default_arm_that_is_another_one_is_refused(data: Path) -> None:
    student = {"layers": 1, "distillation": {"alpha": 0.0}}
    with pytest.raises(RecipeError, match=r"needs 0 < student\.distillation\.alpha < 1"):
        build_arms(tiny_recipe(data, student=student), CompareConfig(), 2)
