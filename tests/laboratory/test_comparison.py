from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie.data.articles import Article
from newsie.errors import RecipeError, TrainingError
from newsie.laboratory.arms import ARMS, DEFAULT, Arm, build_arms
from newsie.laboratory.attacks import ATTACKS
from newsie.laboratory.claims import CLAIMS, ROBUST, claims_about, swept_by
from newsie.laboratory.comparison import _differently_taught, compare
from newsie.laboratory.costs import Cost
from newsie.laboratory.trials import (
    Experiment,
    measure_student,
    same_steps,
    student_learning,
    student_trial,
)
from newsie.training.batches import TrainingSet
from newsie.training.config import FitConfig
from newsie.training.experiment import CompareConfig
from newsie.training.store import RunStore
from newsie.training.train import train
from tests.laboratory.tiny_experiment import tiny_experiment, tiny_recipe

SMALL = CompareConfig(
    seeds=2,
    labelled=96,
    transfer=96,
    test=80,
    attacked=16,
    arms=["gold", "hard", "soft", DEFAULT, "soft, more text", "headline privileged", "no teacher"],
    sweeps={"temperature": [1, 4]},
)


TOLD = {"recipe": "tiny", "command": "newsie compare tiny.toml -o DIR"}


@pytest.mark.slow
def test_a_comparison_is_complete_says_so_and_goes_on_where_it_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_experiment(tiny_recipe(data), data, tmp_path, SMALL)
    findings = compare(experiment, tmp_path, TOLD)
    spoken = capsys.readouterr().err
    assert "0 of 18 students: seed 1 of 2, gold" in spoken
    assert "17 of 18 students, about" in spoken
    names = ["teacher", *SMALL.arms, "temperature 1", "temperature 4"]
    assert [arm.name for arm in findings.arms] == names
    students = findings.arms[1:]
    assert {arm.steps for arm in students} == {12}  # 2 epochs of 96 articles in batches of 16
    assert [arm.articles for arm in students] == [96] * 4 + [192] + [96] * 4
    assert all(set(arm.by_task) == {"section", "mood"} for arm in findings.arms)
    assert all(arm.cost and arm.cost.megabytes > 0 for arm in students)
    assert all(0 <= arm.agreement <= 1 for arm in students)
    assert tuple(findings.arm("gold").attacks) == ATTACKS == tuple(findings.arm("soft").attacks)
    assert {(c.first, c.second, c.attack) for c in findings.robustness} == {
        (*pair, name)
        for pair in (("hard", "gold"), ("soft", "gold"), ("soft", "hard"))
        for name in ATTACKS
    }
    # The recipe's temperature is 2: neither 1 nor 4 is the same student.
    assert ("temperature 4", DEFAULT) in {(c.first, c.second) for c in findings.contrasts}
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
    assert folders.count("trial") == 2 * len(students)
    assert folders.count("teacher-trial") == 2  # of whole articles
    assert "student" not in folders
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tiny").glob("t*/**/*") if p.is_file()}
    again = tiny_experiment(tiny_recipe(data), data, tmp_path, SMALL)
    assert compare(again, tmp_path, TOLD).arms[1] == findings.arms[1]
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "tiny").glob("t*/**/*") if p.is_file()}
    assert after == before


def student_set(experiment: Experiment, arm: Arm, seed: int) -> TrainingSet:
    """The training set of an arm's student."""
    tokenizer = experiment.tokenizer(arm.student)
    return student_learning(experiment, arm, seed, tokenizer).data.build(experiment.store)


def test_labels_that_an_arm_must_not_know_are_hidden(data: Path, tmp_path: Path) -> None:
    bench = tiny_experiment(tiny_recipe(data), data, tmp_path, SMALL)
    [arm] = [a for a in build_arms(tiny_recipe(data), SMALL, 2) if a.name == "soft, more text"]
    rows = bench.rows(0, arm.labelled, arm.transfer)
    assert len(set(rows.tolist())) == 192
    assert (bench.labelled(0, arm) == rows[:96]).all()
    assert set(bench.rows(0, 48, 0)) < set(bench.rows(0, 96, 0))
    assert set(bench.rows(0, 96, 0)) != set(bench.rows(1, 96, 0))
    targets = bench.corpora.targets("train")
    assert all(any(column[row] >= 0 for column in targets.values()) for row in rows[:96])
    learnt = student_set(bench, arm, 0)
    assert all((column[96:] < 0).all() for column in learnt.labels.values())
    assert learnt.soft is not None
    assert learnt.soft["full"]["section"].shape == (192, 3)


def test_a_hotter_teacher_is_one_of_smaller_logits(data: Path, tmp_path: Path) -> None:
    config = CompareConfig(labelled=48, arms=[DEFAULT, "two temperatures"])
    bench = tiny_experiment(tiny_recipe(data), data, tmp_path, config)
    default, hotter = build_arms(tiny_recipe(data), config, 2)
    one, two = (student_set(bench, arm, 0).soft for arm in (default, hotter))
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
    assert arms["headline privileged"].teacher_view == "full"
    assert arms["headline soft"].teacher_view == arms["headline soft"].view == "headline"
    assert arms["url privileged"].view == "url"
    assert arms["no teacher"].student.encoder == recipe.teacher.encoder
    sizes = {arms[name].student.layers for name in ("self", "self gold", "self hard")}
    assert sizes == {2}
    assert arms["self gold"].student.distillation.alpha == 1
    assert arms["self hard"].student.distillation.loss == "top"
    assert arms["self"].student.distillation.temperature == 20
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
        (
            {"arms": ["softt"]},
            r"compare\.arms names \['softt'\]; there are: 'no teacher', 'gold', 'hard'",
        ),
        ({"arms": ["soft, more text"]}, r"set compare\.transfer above 0"),
        ({"labelled": 10_000}, r"wants 10,000 labelled articles; there are \d+"),
        ({"labelled": 300, "sweeps": {"transfer": [200]}}, r"wants 500 articles.*there are 3\d\d"),
        ({"arms": []}, r"compare\.arms is empty, and nothing is swept; there are: 'no teacher'"),
        ({"sweeps": {"layers": [1, 9]}}, r"arm 'layers 9' wants 9 layers; the encoder has 1 to 2"),
        ({"test": 1}, r"there are 1 labelled test articles.*an interval needs two"),
        ({"attacked": 1}, r"of which 1 are attacked .*an interval needs two"),
        (
            {"arms": ["url gold"]},
            r"\['url gold'\] read the words of addresses, and (\d+) of \1 test articles have no address",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_fitted(
    data: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = CompareConfig(**{"arms": ["soft"], **changes})  # type: ignore[arg-type]
    experiment = tiny_experiment(tiny_recipe(data), data, tmp_path, config)
    with pytest.raises(RecipeError, match=message):
        compare(experiment, tmp_path, TOLD)
    assert not list(tmp_path.glob("tiny/teacher-*"))


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        ({"temperature": [0]}, r"sweeps\.temperature\.0.*greater than or equal to 1"),
        ({"alpha": [2]}, r"sweeps\.alpha\.0.*less than or equal to 1"),
        ({"layers": [1.5]}, r"sweeps\.layers\.0.*valid integer"),
        ({"labelled": [0]}, r"sweeps\.labelled\.0.*greater than or equal to 1"),
        ({"depth": [1]}, r"sweeps\.depth"),
    ],
)
def test_what_cannot_be_swept_is_a_mistake_of_the_recipe(
    data: Path, sweeps: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=f"experiment.py say what each field means:\n.*{message}"):
        tiny_recipe(data, compare={"sweeps": sweeps})


def test_a_sweep_without_the_recipes_student_is_told_to_have_no_differences(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompareConfig(seeds=2, labelled=16, test=20, arms=["gold"], sweeps={"alpha": [0.5]})
    compare(tiny_experiment(tiny_recipe(data), data, tmp_path, config), tmp_path, TOLD)
    assert "compared with the arm 'soft+gold', which compare.arms leaves out" in (
        capsys.readouterr().err
    )


def test_each_kind_of_teacher_has_a_row(data: Path) -> None:
    names = ["headline gold", "headline privileged", "gold", "ensemble"]
    arms = build_arms(
        tiny_recipe(data), CompareConfig(arms=names, sweeps={"labelled": [16], "alpha": [0.5]}), 2
    )
    taught = _differently_taught([arms[0], *arms])
    assert [arm.name for arm in taught] == ["headline gold", "headline privileged", "ensemble"]


def test_a_default_arm_that_is_another_one_is_refused(data: Path) -> None:
    student = {"layers": 1, "distillation": {"alpha": 0.0}}
    with pytest.raises(RecipeError, match=r"needs 0 < student\.distillation\.alpha < 1"):
        build_arms(tiny_recipe(data, student=student), CompareConfig(), 2)


def test_a_student_of_addresses_reads_their_words(data: Path, tmp_path: Path) -> None:
    config = CompareConfig(labelled=24, arms=["url privileged"])
    bench = tiny_experiment(tiny_recipe(data), data, tmp_path, config)
    [arm] = build_arms(tiny_recipe(data), config, 2)
    learnt = student_set(bench, arm, 0)
    # The tiny articles have no address: a blank, which is two tokens.
    assert set(learnt.tokens["headline"].lengths) == {2}
    assert learnt.soft is not None
    assert (learnt.soft["headline"]["section"] == learnt.soft["full"]["section"]).all()
    assert arm.student.fit.headline_share == 1

    # Of mixtures, too, the teacher reads whole articles, whatever the student does.
    distillation = replace(arm.student.distillation, mixtures="mix_up")
    mixed = replace(arm, short="headline", student=replace(arm.student, distillation=distillation))
    soft = student_set(bench, mixed, 0).soft
    assert soft is not None
    assert len(soft["full"]["section"]) == 48
    assert (soft["headline"]["section"] == soft["full"]["section"]).all()


def test_a_student_is_timed_on_what_it_reads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Article]] = []

    def measured(model: Any, tool: Any, articles: list[Article]) -> Cost:
        asked.append(articles)
        return Cost(1, 1.0, 1.0, 1.0, 1)

    monkeypatch.setattr("newsie.laboratory.trials.measure_cost", measured)
    recipe = tiny_recipe(data)
    bench = tiny_experiment(recipe, data, tmp_path)
    taught_by_more = replace(recipe.student, teacher_view="full")
    for student, view in ((recipe.student, "full"), (taught_by_more, "full")):
        measure_student(bench, student, view)  # type: ignore[arg-type]
    assert len(asked) == 1  # who taught it does not matter
    measure_student(bench, recipe.student, "headline")
    whole, headlines = asked
    assert any(article.body for article in whole)
    assert not any(article.body for article in headlines)


def test_claims_are_made_of_the_arms_that_there_are() -> None:
    names = ["gold", "soft", DEFAULT, "temperature 4", "labelled 500", "labelled 500, gold"]
    assert set(claims_about(names)) == {
        ("soft", "gold"),
        (DEFAULT, "gold"),
        (DEFAULT, "soft"),
        ("temperature 4", DEFAULT),
        ("labelled 500", "labelled 500, gold"),
    }
    assert all(set(pair) <= set(ARMS) for pair in [*CLAIMS, *ROBUST])
    assert [swept_by(name) for name in names[2:5]] == [None, "temperature", "labelled"]


@pytest.mark.slow
def test_a_trial_is_made_anew_when_what_decides_it_changes(data: Path, tmp_path: Path) -> None:
    config = CompareConfig(seeds=2, labelled=32, test=20, arms=["gold"])
    [arm] = build_arms(tiny_recipe(data), config, 2)

    def folders(config: CompareConfig = config, **changes: Any) -> set[str]:
        recipe = tiny_recipe(data, **changes)
        student_trial(tiny_experiment(recipe, data, tmp_path, config), arm, 0)
        return {path.name for path in (tmp_path / "tiny").glob("t*-*") if path.is_dir()}

    first = folders()
    assert folders() == first
    assert folders(ladder={"nano": {"kind": "nano"}}) == first  # decides nothing here
    more = folders(replace(config, test=21))
    assert len(more) == len(first) + 1  # other questions to the same teacher
    fit = {"epochs": 1, "batch_size": 16, "max_tokens": 24}
    other = folders(teacher={"encoder": str(data / "bert"), "fit": fit})
    assert len(other) == len(more) + 2  # a teacher and its student


@pytest.mark.slow
def test_the_teacher_of_a_finished_run_teaches(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data)
    run = tmp_path / "runs" / "tiny"
    train(recipe, RunStore(run, precision="fp32"), data=data, until="soft-labels")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    config = CompareConfig(
        seeds=2, labelled=48, test=40, arms=["hard", "soft", "headline privileged"]
    )
    bench = tiny_experiment(replace(recipe, name="trials"), data, tmp_path, config, run)
    findings = compare(bench, tmp_path / "out", TOLD | {"taught_by": 350})
    assert "It has learnt from the labels of 350 articles" in findings.to_markdown()
    assert findings.arm("teacher").labelled == len(bench.rows(0, 0, 0)) > 300
    assert findings.arm("soft").labelled == 48
    # Soft labels of the whole articles are the run's; the privileged arm needs others.
    assert len(list(bench.store.directory.glob("soft-labels-*"))) == 2
    assert not list(bench.store.directory.glob("teacher-*/model"))
    arm = build_arms(recipe, config, 2)[1]
    rows, learnt = bench.rows(1, 48, 0), student_set(bench, arm, 1).soft
    everything = Experiment(recipe, bench.store, bench.corpora, replace(config, labelled=0), True)
    [all_rows_arm] = build_arms(recipe, replace(config, labelled=0, arms=["soft"]), 2)
    whole = student_set(everything, all_rows_arm, 1).soft
    assert learnt is not None
    assert whole is not None
    order = {row: at for at, row in enumerate(everything.rows(1, 0, 0).tolist())}
    at = [order[row] for row in rows.tolist()]
    assert (learnt["full"]["section"] == whole["full"]["section"][at]).all()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    more = tiny_experiment(
        replace(recipe, name="trials"), data, tmp_path, replace(config, arms=["ensemble"]), run
    )
    with pytest.raises(RecipeError, match=r"arm 'ensemble' wants 3 teachers; the run has 1"):
        compare(more, tmp_path, TOLD)


def test_a_run_without_the_teacher_is_refused(data: Path, tmp_path: Path) -> None:
    config = CompareConfig(seeds=2, labelled=16, test=20, arms=["gold"])
    experiment = tiny_experiment(tiny_recipe(data), data, tmp_path, config, tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match=r"there is no finished teacher-\w+ in .*elsewhere"):
        compare(experiment, tmp_path, TOLD)
