"""The findings of a comparison as JSON, tables and sentences, which also say when soft labels do not win."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from newsie.atomic import write_text
from newsie.laboratory.arms import DEFAULT
from newsie.laboratory.attacks import ATTACKS
from newsie.laboratory.claims import claims_about
from newsie.laboratory.contrasts import MEASURES, Contrast, Measure, Verdict
from newsie.laboratory.costs import Cost
from newsie.metrics.estimates import Estimate
from newsie.training.experiment import Swept
from newsie.training.metrics_report import table

__all__ = ["TEACHER", "ArmFindings", "Findings", "write_findings"]

TEACHER = "teacher"
NAMES: Mapping[Measure, str] = {"macro_f1": "macro-F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class ArmFindings:
    """The scores and costs of an arm's students.

    Attributes:
        name: name of the arm.
        labelled, articles: number of articles with gold labels, and of all articles that they learn from.
        layers: number of layers.
        steps: optimizer steps.
        minutes: time to fit one student; the median over seeds, since an interrupted one takes longer.
        scores: measure -> mean over seeds of the mean over tasks, with its 95 % interval.
        by_task: task -> measure -> mean over seeds.
        calibration_error: expected calibration error as trained, mean over seeds and tasks.
        calibrated_error: the same with one temperature per task, fitted on validation articles.
        agreement: share of the articles that get the teacher's label.
        attacks: attack -> accuracy, mean over seeds of the mean over tasks, with its 95 % interval.
        swept: position on the axis of each sweep.
        cost: cost of the served form; None for a teacher.
    """

    name: str
    labelled: int
    articles: int
    layers: int
    steps: int
    minutes: float
    scores: dict[Measure, Estimate]
    by_task: dict[str, dict[Measure, float]]
    calibration_error: float
    calibrated_error: float
    agreement: float
    attacks: dict[str, Estimate]
    swept: dict[Swept, float]
    cost: Cost | None


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison.

    Attributes:
        circumstances: recipe, command, date, machine, packages: plain JSON values.
        seeds: number of finished seeds.
        wanted: number of seeds in all.
        test_articles: number of test articles.
        arms: the teacher, or one of each kind if arms have different ones, followed by the students.
        contrasts: one for each claim about the arms and each measure.
        robustness: differences in accuracy under each attack, for pairs of arms.
    """

    circumstances: dict[str, Any]
    seeds: int
    wanted: int
    test_articles: int
    arms: tuple[ArmFindings, ...]
    contrasts: tuple[Contrast, ...]
    robustness: tuple[Contrast, ...] = ()

    def arm(self, name: str) -> ArmFindings:
        """Return the findings of an arm."""
        return next(arm for arm in self.arms if arm.name == name)

    def sentences(self) -> list[str]:
        """Return sentences: a summary of soft labels and of helpful changes, then each claim's verdict."""
        by_pair: dict[tuple[str, str], dict[Measure, Contrast]] = {}
        for found in self.contrasts:
            by_pair.setdefault((found.first, found.second), {})[found.measure] = found
        claims = claims_about([arm.name for arm in self.arms])
        lines = [_sentence(claims[pair], found) for pair, found in by_pair.items()]
        return [*_in_short(by_pair), *_ladder(self.contrasts), *lines]

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values, with verdicts and sentences."""
        content: dict[str, Any] = TypeAdapter(Findings).dump_python(self, mode="json")
        for name in ("contrasts", "robustness"):
            for plain, found in zip(content[name], getattr(self, name), strict=True):
                plain["verdict"] = found.verdict
        return content | {"sentences": self.sentences()}

    def to_markdown(self) -> str:
        """Return the findings as Markdown: sentences, then tables."""
        c = self.circumstances
        parts = [f"# Students compared: `{c['recipe']}`", _describe(self)]
        parts += ["\n".join(f"- {line}" for line in self.sentences())]
        parts += ["## Students", STUDENTS_EXPLAINED, _arm_table(self)]
        parts += ["## By task", _task_table(self)]
        if self.contrasts:
            parts += ["## Differences", _contrast_table(self.contrasts)]
        if any(arm.attacks for arm in self.arms):
            parts += ["## Attacks", ATTACKS_EXPLAINED, _attack_table(self.arms)]
        if self.robustness:
            parts += ["### Differences under attack", _contrast_table(self.robustness)]
        return "\n\n".join(parts) + "\n"


STUDENTS_EXPLAINED = (
    "All in per cent. ECE: expected calibration error, as it learnt and with one temperature a task. As "
    "teacher: articles that get the label of the arm's own teacher. MB, ms (one article alone) and "
    "articles/s: of the int8 form, on one thread, reading what the student reads. Steps and minutes: to fit "
    "it, once."
)

ATTACKS_EXPLAINED = (
    "Accuracy in per cent, mean over tasks and seeds, with 95 % intervals. A fifth of the words of four "
    "letters or more misspelt; capital letters; a fifth of the words exchanged with the next; and word "
    "embeddings moved against the gold label, by at most 0.1 and 0.3 of their mean length, by somebody who "
    "knows the weights."
)


def write_findings(findings: Findings, directory: Path) -> list[Path]:
    """Write compare.json and compare.md into a directory, and return both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    raw, text = directory / "compare.json", directory / "compare.md"
    content = json.dumps(findings.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(raw, content + "\n")
    write_text(text, findings.to_markdown())
    return [raw, text]


def _in_short(by_pair: Mapping[tuple[str, str], Mapping[Measure, Contrast]]) -> list[str]:
    """Return a sentence that says if soft labels win by macro-F1, or none if they were not compared."""
    asked = [("soft", "hard"), ("soft", "gold")]
    found = [by_pair[pair]["macro_f1"] for pair in asked if pair in by_pair]
    if not found:
        return []
    verdicts = {f"{contrast.second} labels": contrast.verdict for contrast in found}
    if set(verdicts.values()) == {"holds"}:
        return [f"Soft labels win against {' and '.join(verdicts)}."]
    lost = [name for name, verdict in verdicts.items() if verdict == "does not hold"]
    if lost:
        return [f"Soft labels do not win: {' and '.join(lost)} are better."]
    close = [name for name, verdict in verdicts.items() if verdict == "too close to call"]
    return [
        f"Soft labels do not clearly win: against {' and '.join(close)} it is too close to call."
    ]


def _ladder(contrasts: Sequence[Contrast]) -> list[str]:
    """Return a sentence that ranks changes of the recipe's student by macro-F1, if there are several."""
    changes = [c for c in contrasts if c.second == DEFAULT and c.measure == "macro_f1"]
    if len(changes) < 2:
        return []
    by_verdict: dict[Verdict, list[str]] = {}
    for change in sorted(changes, key=lambda c: -c.difference.value):
        by_verdict.setdefault(change.verdict, []).append(change.first)
    parts = [
        f"{meaning}: {', '.join(by_verdict.get(verdict, ['none']))}"
        for verdict, meaning in LADDER.items()
    ]
    return [f"Changes of `{DEFAULT}`, the largest gain first. {'; '.join(parts)}."]


LADDER: Mapping[Verdict, str] = {
    "holds": "Better",
    "does not hold": "harmful",
    "too close to call": "too close to call",
}
"""Verdict -> its meaning for a change that was expected to help."""


def _sentence(claim: str, found: Mapping[Measure, Contrast]) -> str:
    main = found["macro_f1"]
    figures = ", ".join(f"{NAMES[m]} {_points(found[m].difference)}" for m in MEASURES)
    text = f"{claim[0].upper()}{claim[1:]}: **{main.verdict}** ({figures}; "
    return text + f"{main.wins} of {main.seeds} seeds)."


def _points(difference: Estimate) -> str:
    return (
        f"{100 * difference.value:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    )


def _per_cent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _describe(findings: Findings) -> str:
    c = findings.circumstances
    packages = ", ".join(f"{name} {version}" for name, version in c["packages"].items())
    unfinished = (
        f" **{findings.seeds} of {findings.wanted} seeds are done.**"
        if findings.seeds < findings.wanted
        else ""
    )
    return (
        f"`{c['command']}`, {c['date']}, on {c['cores']} cores of {c['processor']}. Code: "
        f"{c['commit'] or 'not in a git checkout'}. {packages}.{unfinished}\n\n"
        f"{_describe_teacher(c)}{findings.seeds} seeds, {findings.test_articles:,} test articles; "
        "scores are means over seeds and tasks. Intervals of 95 % cover other seeds (labelled articles, "
        "teacher, order) and other test "
        "articles; those of differences are paired in both. Each sentence is about macro-F1. With many "
        "claims, one in twenty may look settled by chance."
    )


def _describe_teacher(circumstances: Mapping[str, Any]) -> str:
    if not (articles := circumstances.get("taught_by")):
        return ""
    return (
        "**The teacher is that of a finished run and the same for all seeds. It has learnt from the labels "
        f"of {articles:,} articles, the students know fewer: that soft labels beat gold ones says here that "
        "it knows more. Intervals do not cover other teachers.**\n\n"
    )


def _arm_table(findings: Findings) -> str:
    rows = []
    for arm in findings.arms:
        cost = arm.cost
        rows.append(
            (
                arm.name,
                f"{arm.labelled:,}",
                f"{arm.articles:,}",
                *(_per_cent(arm.scores[measure]) for measure in MEASURES),
                f"{100 * arm.calibration_error:.1f} → {100 * arm.calibrated_error:.1f}",
                f"{100 * arm.agreement:.1f}",
                f"{arm.layers}",
                f"{cost.parameters / 1e6:.1f} M" if cost else "",
                f"{cost.megabytes:.1f}" if cost else "",
                f"{cost.milliseconds:.2f}" if cost else "",
                f"{cost.articles_per_second:,.0f}" if cost else "",
                f"{arm.steps:,}" if arm.steps else "",
                f"{arm.minutes:.1f}" if arm.minutes else "",
            )
        )
    header: tuple[str, ...] = (
        "student",
        "gold labels",
        "articles",
        "macro-F1",
        "accuracy",
        "ECE → calibrated",
    )
    header += ("as teacher", "layers", "parameters", "MB", "ms", "articles/s", "steps", "min")
    return table(header, rows)


def _task_table(findings: Findings) -> str:
    tasks = list(findings.arms[0].by_task)
    header = ("student", *(f"{task}: {NAMES[m]}" for task in tasks for m in MEASURES))
    return table(
        header,
        [
            (arm.name, *(f"{100 * arm.by_task[task][m]:.1f}" for task in tasks for m in MEASURES))
            for arm in findings.arms
        ],
    )


def _contrast_table(contrasts: Sequence[Contrast]) -> str:
    return table(
        ("difference", "measure", "points", "seeds won", "p (seeds)", "first is better"),
        [
            (
                f"{c.first} − {c.second}",
                f"{NAMES[c.measure]}, {c.attack}" if c.attack else NAMES[c.measure],
                _points(c.difference),
                f"{c.wins} of {c.seeds}",
                f"{c.p:.3f}",
                c.verdict,
            )
            for c in contrasts
        ],
    )


def _attack_table(arms: Sequence[ArmFindings]) -> str:
    attacked = [arm for arm in arms if arm.attacks]
    names = [name for name in ATTACKS if name in attacked[0].attacks]
    return table(
        ("student", *names),
        [(arm.name, *(_per_cent(arm.attacks[name]) for name in names)) for arm in attacked],
    )
