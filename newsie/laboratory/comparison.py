"""`newsie compare`: all arms, seed by seed, and what comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from newsie.errors import RecipeError
from newsie.evaluation import expected_calibration_error, softmax
from newsie.labels import IGNORE
from newsie.laboratory.arms import DEFAULT, Arm, build_arms
from newsie.laboratory.bench import Bench, Trial
from newsie.laboratory.contrasts import (
    MEASURES,
    Contrast,
    Labels,
    Measure,
    Values,
    contrast,
    estimate,
    measured,
)
from newsie.laboratory.costs import COST_ARTICLES, Cost, measure_cost
from newsie.laboratory.drawing import draw_findings
from newsie.laboratory.findings import CLAIMS, TEACHER, ArmFindings, Findings, write_findings
from newsie.training.encoder import count_layers
from newsie.training.experiment import CompareConfig
from newsie.training.measurement import surroundings
from newsie.training.pipeline import Pipeline

__all__ = ["compare"]


def compare(pipeline: Pipeline, config: CompareConfig, output: Path, command: str) -> Findings:
    """Make all students, and write what was found after each seed from the second on.

    Args:
        pipeline: gives articles and tokens, and the folder of the trials.
        config: which students, and how many.
        output: where compare.json, compare.md and the figures go.
        command: what was typed, for the record.

    Raises:
        RecipeError: an arm or a size makes no sense with these articles.
    """
    layers = count_layers(pipeline.recipe.teacher.encoder)
    arms = build_arms(pipeline.recipe, config, layers)
    bench = Bench(pipeline, config)
    _check_sizes(bench, arms)
    students: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
    teachers: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
    costs: dict[int, Cost] = {}
    findings = None
    for seed in range(config.seeds):
        for arm in arms:
            pipeline.say(f"seed {seed + 1} of {config.seeds}: {arm.name}")
            teachers[arm.name].append(bench.teacher_trial(arm, seed))
            students[arm.name].append(bench.trial(arm, seed))
            depth = arm.student.layers
            costs[depth] = costs.get(depth) or _cost(bench, arm)
        if seed > 0:
            told = {"recipe": pipeline.recipe.name, "command": command} | surroundings()
            findings = _findings(bench, arms, students, teachers, costs, told)
            for path in [*write_findings(findings, output), *draw_findings(findings, output)]:
                pipeline.say(str(path))
    assert findings is not None  # there are two seeds at least
    return findings


def _check_sizes(bench: Bench, arms: Sequence[Arm]) -> None:
    """Refuse what asks for more articles than there are, before anything is fitted."""
    most = len(bench.rows(0, 0, 0))
    total = len(next(iter(bench.pipeline.corpora.targets("train").values())))
    for arm in arms:
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


def _cost(bench: Bench, arm: Arm) -> Cost:
    """Of a student of the arm's shape; what it has learnt does not matter."""
    pipeline, config = bench.pipeline, arm.student
    student = pipeline.new_student(bench.teachers(0, arm)[0], config)
    tool = pipeline.encoder(pipeline.student_encoder, config.max_tokens, config.vocabulary)
    pipeline.say(f"{config.layers} layers: size and time")
    return measure_cost(student, tool, bench.articles(COST_ARTICLES))


def _findings(
    bench: Bench,
    arms: Sequence[Arm],
    students: Mapping[str, Sequence[Trial]],
    teachers: Mapping[str, Sequence[Trial]],
    costs: Mapping[int, Cost],
    told: dict[str, Any],
) -> Findings:
    default = next((arm for arm in arms if arm.name == DEFAULT), arms[0])
    found = [
        _arm_findings(bench, replace(default, name=TEACHER), teachers[default.name], None, None)
    ]
    values: dict[tuple[str, Measure], Values] = {}
    for arm in arms:
        trials = students[arm.name]
        cost = costs[arm.student.layers]
        found.append(_arm_findings(bench, arm, trials, teachers[arm.name], cost))
        for measure in MEASURES:
            values[arm.name, measure] = measured(_predicted(trials), bench.gold, measure)
    done = len(students[arms[0].name])
    return Findings(
        told,
        done,
        bench.config.seeds,
        len(bench.test_rows),
        tuple(found),
        tuple(_contrasts(values, [arm.name for arm in arms])),
    )


def _contrasts(
    values: Mapping[tuple[str, Measure], Values], names: Sequence[str]
) -> list[Contrast]:
    return [
        contrast(pair, values[pair[0], measure], values[pair[1], measure], measure)
        for pair in CLAIMS
        if set(pair) <= set(names)
        for measure in MEASURES
    ]


def _predicted(trials: Sequence[Trial]) -> list[Labels]:
    return [{task: z.argmax(axis=1) for task, z in trial.logits.items()} for trial in trials]


def _arm_findings(
    bench: Bench,
    arm: Arm,
    trials: Sequence[Trial],
    teachers: Sequence[Trial] | None,
    cost: Cost | None,
) -> ArmFindings:
    """Of a student; of the teacher where it has none itself."""
    predicted, gold = _predicted(trials), bench.gold
    answered = [task for task, column in gold.items() if (column != IGNORE).any()]
    record = trials[-1].record
    labelled = len(bench.labelled(0, arm))
    return ArmFindings(
        name=arm.name,
        labelled=labelled,
        articles=record.get("articles", labelled),
        layers=arm.student.layers
        if teachers
        else count_layers(bench.pipeline.recipe.teacher.encoder),
        steps=record.get("steps", 0),
        minutes=_mean([trial.record.get("seconds", 0.0) for trial in trials]) / 60,
        scores={m: estimate(measured(predicted, gold, m)) for m in MEASURES},
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
        attacks=_mean_attacks(trials),
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


def _mean_attacks(trials: Sequence[Trial]) -> dict[str, float]:
    found = [trial.record.get("attacks", {}) for trial in trials]
    return {name: _mean([attacks[name] for attacks in found]) for name in found[0]}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
