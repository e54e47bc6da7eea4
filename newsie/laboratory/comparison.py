"""The comparison of `newsie compare`: all arms are fitted seed by seed, and their scores compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from newsie.data.urls import url_words
from newsie.errors import RecipeError
from newsie.labels import IGNORE
from newsie.laboratory.arms import DEFAULT, Arm, build_arms
from newsie.laboratory.attacks import ATTACKS
from newsie.laboratory.claims import ROBUST, claims_about, swept_by
from newsie.laboratory.comparison_report import TEACHER, ArmFindings, Findings, write_findings
from newsie.laboratory.contrasts import MEASURES, Contrast, Labels, contrast, estimate, measured
from newsie.laboratory.costs import Cost
from newsie.laboratory.eta import Course
from newsie.laboratory.plots import draw_findings
from newsie.laboratory.trials import (
    Experiment,
    Trial,
    measure_student,
    student_trial,
    teacher_trial,
)
from newsie.metrics.estimates import Estimate
from newsie.metrics.evaluation import expected_calibration_error, softmax
from newsie.training.encoder import count_layers
from newsie.training.evaluate_run import surroundings
from newsie.training.train import student_origin

__all__ = ["compare"]


def compare(experiment: Experiment, output: Path, circumstances: Mapping[str, Any]) -> Findings:
    """Fit all students, and write the findings after each seed from the second on.

    Args:
        experiment: recipe, articles and sizes.
        output: folder for compare.json, compare.md and the figures.
        circumstances: recipe and command, for the record: plain JSON values.

    Raises:
        RecipeError: an arm or a size is impossible with these articles.
    """
    recipe, config = experiment.recipe, experiment.config
    layers = count_layers(recipe.teacher.encoder)
    arms = build_arms(recipe, config, layers)
    _check_sizes(experiment, arms)
    if any(swept_by(arm.name) for arm in arms) and DEFAULT not in config.arms:
        experiment.store.say(
            f"what is swept is compared with the arm {DEFAULT!r}, which compare.arms leaves out: there will "
            "be no differences of it"
        )
    made = _Made(experiment, arms)
    course = Course([arm.name for arm in arms], config.seeds)
    findings = None
    for seed in range(config.seeds):
        for arm in arms:
            experiment.store.say(
                f"{course.describe()}: seed {seed + 1} of {config.seeds}, {arm.name}"
            )
            course.note(arm.name, made.add(arm, seed).record)
        if seed > 0:
            findings = _findings(made, dict(circumstances) | surroundings())
            for path in [*write_findings(findings, output), *draw_findings(findings, output)]:
                experiment.store.say(str(path))
    assert findings is not None  # there are at least two seeds
    return findings


class _Made:
    """The trials of students and teachers so far, and the costs of students, by arm."""

    def __init__(self, experiment: Experiment, arms: Sequence[Arm]) -> None:
        self.experiment, self.arms = experiment, arms
        self.students: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
        self.teachers: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
        self.costs: dict[str, Cost] = {}

    def add(self, arm: Arm, seed: int) -> Trial:
        """Fit the student of a seed and its teachers, and return the student's trial."""
        student = student_trial(self.experiment, arm, seed)
        self.students[arm.name].append(student)
        self.teachers[arm.name].append(teacher_trial(self.experiment, arm, seed))
        self.costs[arm.name] = measure_student(self.experiment, arm.student, arm.view)
        return student


def _check_sizes(experiment: Experiment, arms: Sequence[Arm]) -> None:
    """Raise RecipeError, before anything is fitted, if there are too few articles, teachers or layers."""
    most = len(experiment.rows(0, 0, 0))
    total = experiment.articles_in_all
    given = len(experiment.recipe.teacher.seeds)
    layers = count_layers(student_origin(experiment.recipe).name)
    if len(experiment.test_rows) < 2 or experiment.config.attacked == 1:
        raise RecipeError(
            f"there are {len(experiment.test_rows)} labelled test articles, of which "
            f"{experiment.config.attacked} are attacked (compare.attacked; 0 means "
            "none); an interval needs two at least"
        )
    _check_addresses(experiment, arms)
    for arm in arms:
        if experiment.given and arm.teachers > given:
            raise RecipeError(
                f"arm {arm.name!r} wants {arm.teachers} teachers; the run has {given}. Leave out the arm, or "
                "--run"
            )
        if arm.labelled > most:
            raise RecipeError(
                f"arm {arm.name!r} wants {arm.labelled:,} labelled articles; there are {most:,}"
            )
        if (wanted := (arm.labelled or most) + arm.transfer) > total:
            raise RecipeError(
                f"arm {arm.name!r} wants {wanted:,} articles, labelled and further ones together; there "
                f"are {total:,}. Lower compare.labelled (given: {arm.labelled:,}; 0 means all) or "
                f"compare.transfer (given: {arm.transfer:,})"
            )
        if arm.student.layers > layers:
            raise RecipeError(
                f"arm {arm.name!r} wants {arm.student.layers} layers; the encoder has 1 to {layers} to take"
            )


def _check_addresses(experiment: Experiment, arms: Sequence[Arm]) -> None:
    """Raise RecipeError if an arm reads URLs but no test article has one with words; report missing ones."""
    if not (readers := [arm.name for arm in arms if arm.view == "url"]):
        return
    articles = experiment.articles(len(experiment.test_rows))
    if missing := sum(not url_words(article.url) for article in articles):
        found = f"{missing:,} of {len(articles):,} test articles have no address with words in it"
        if missing == len(articles):
            raise RecipeError(
                f"the arms {readers} read the words of addresses, and {found}; leave these arms out, or "
                "give the corpus a column url"
            )
        experiment.store.say(f"{found}: the arms {readers} read nothing of them")


def _findings(made: _Made, told: dict[str, Any]) -> Findings:
    experiment, arms = made.experiment, made.arms
    default = next((arm for arm in arms if arm.name == DEFAULT), arms[0])
    found = []
    for number, arm in enumerate(_differently_taught([default, *arms])):
        name = f"{TEACHER} of {arm.name}" if number else TEACHER
        teacher = replace(arm, name=name)
        found.append(_arm_findings(experiment, teacher, made.teachers[arm.name], None, None))
    for arm in arms:
        trials, teachers = made.students[arm.name], made.teachers[arm.name]
        found.append(_arm_findings(experiment, arm, trials, teachers, made.costs[arm.name]))
    return Findings(
        told,
        len(made.students[default.name]),
        experiment.config.seeds,
        len(experiment.test_rows),
        tuple(found),
        tuple(_contrasts(made)),
        tuple(_contrasts_under_attack(made)),
    )


def _differently_taught(arms: Sequence[Arm]) -> list[Arm]:
    """Return the first arm of each kind of teacher, without those of sweeps, which would be many."""
    kinds: dict[tuple[Any, ...], Arm] = {}
    for number, arm in enumerate(arms):
        if not (number and swept_by(arm.name)):
            kinds.setdefault((arm.teacher_view, arm.teachers, arm.labelled), arm)
    return list(kinds.values())


def _contrasts(made: _Made) -> list[Contrast]:
    by_name = {arm.name: arm for arm in made.arms}
    values = {
        (name, measure): measured(_predicted(trials), made.experiment.gold, measure)
        for name, trials in made.students.items()
        for measure in MEASURES
    }
    return [
        contrast(pair, values[pair[0], measure], values[pair[1], measure], measure)
        for pair in claims_about(list(by_name))
        if by_name[pair[0]].to_json() != by_name[pair[1]].to_json()  # a value may be the recipe's
        for measure in MEASURES
    ]


def _contrasts_under_attack(made: _Made) -> list[Contrast]:
    gold = made.experiment.attacked_gold
    values = {
        (name, attack): measured(answers, gold, "accuracy")
        for name, trials in made.students.items()
        for attack, answers in _attacked(trials).items()
    }
    return [
        contrast(pair, values[pair[0], attack], values[pair[1], attack], "accuracy", attack)
        for pair in ROBUST
        for attack in ATTACKS
        if {(name, attack) for name in pair} <= values.keys()
    ]


def _attacked(trials: Sequence[Trial]) -> dict[str, list[Labels]]:
    """Return attack -> predicted labels, by seed."""
    return {
        name: [trial.attacked[name] for trial in trials]
        for name in ATTACKS
        if name in trials[0].attacked
    }


def _predicted(trials: Sequence[Trial]) -> list[Labels]:
    return [{task: z.argmax(axis=1) for task, z in trial.logits.items()} for trial in trials]


def _arm_findings(
    experiment: Experiment,
    arm: Arm,
    trials: Sequence[Trial],
    teachers: Sequence[Trial] | None,
    cost: Cost | None,
) -> ArmFindings:
    """Return the findings of a student, or of a teacher if `teachers` is None."""
    predicted, gold = _predicted(trials), experiment.gold
    answered = [task for task, column in gold.items() if (column != IGNORE).any()]
    record = trials[-1].record
    # The teacher of a finished run has learnt from the labels of all articles.
    given = experiment.given and teachers is None
    labelled = len(experiment.rows(0, 0, 0) if given else experiment.labelled(0, arm))
    return ArmFindings(
        name=arm.name,
        labelled=labelled,
        articles=record.get("articles", labelled),
        layers=arm.student.layers if teachers else count_layers(experiment.recipe.teacher.encoder),
        steps=record.get("steps", 0),
        minutes=median([trial.record.get("seconds", 0.0) for trial in trials]) / 60,
        scores={m: _share(estimate(measured(predicted, gold, m))) for m in MEASURES},
        by_task={
            task: {
                m: float(measured(predicted, {task: gold[task]}, m)[:, 0].mean()) for m in MEASURES
            }
            for task in answered
        },
        calibration_error=_calibration_error(trials, gold, answered, lambda trial, task: 1.0),
        calibrated_error=_calibration_error(
            trials, gold, answered, lambda trial, task: trial.temperatures[task]
        ),
        agreement=_agreement(predicted, _predicted(teachers)) if teachers else 1.0,
        attacks={
            name: _share(estimate(measured(answers, experiment.attacked_gold, "accuracy")))
            for name, answers in _attacked(trials).items()
        },
        swept=arm.swept | {"labelled": labelled},
        cost=cost,
    )


def _calibration_error(
    trials: Sequence[Trial],
    gold: Labels,
    tasks: Sequence[str],
    temperature: Callable[[Trial, str], float],
) -> float:
    return _mean(
        [
            expected_calibration_error(
                softmax(trial.logits[task] / temperature(trial, task)), gold[task]
            )
            for trial in trials
            for task in tasks
        ]
    )


def _agreement(students: Sequence[Labels], teachers: Sequence[Labels]) -> float:
    return _mean(
        [
            float((student[task] == teacher[task]).mean())
            for student, teacher in zip(students, teachers, strict=True)
            for task in student
        ]
    )


def _share(found: Estimate) -> Estimate:
    """Return an estimate with its interval clipped to 0 and 1."""
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
