"""`newsie explain` beside gradients: do they find the same words, and do those words matter?

    python -m benchmarks.explain --run runs/default --file articles.parquet

Two measures, each a mean over articles with a bootstrap interval over articles:

- agreement: Spearman's rank correlation, over the words of an article, of leaving words out of the
  int8 student with gradients of the float student;
- loss: by how much the probability of the answer falls when the fifth of the words that a method
  ranks highest goes, all together (comprehensiveness, DeYoung et al. 2020, arXiv 1911.03429).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.attributions import Attributions, Reading
from benchmarks.corpus import SAMPLE
from benchmarks.entry import run_command
from benchmarks.report import RESULTS, circumstances, table, write_report
from benchmarks.sides import positive
from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.inference.classifier import Classifier
from newsie.training.model import MultiTaskModel

REMOVED, MASKED, FLOAT = "word left out", "word masked", "word left out, float"
GRADIENT, INTEGRATED, CHANCE = "gradient times input", "integrated gradients", "chance"
OCCLUSIONS = (REMOVED, MASKED)
MIN_WORDS = 5
"""Articles of fewer words are left out: a rank correlation of four says nothing."""
SHARE_LOST = 0.2
RESAMPLES = 2_000

Floats = NDArray[np.float64]
Measurement = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the tables."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("explain", given, timed=False)
    classifier = Classifier.from_pretrained(options.model or _only(options.run, "bundle-*"))
    student = MultiTaskModel.load(options.student or _only(options.run, "student-*/model"))
    torch.manual_seed(0)
    tools = Attributions(classifier, student, options.steps)
    articles = _take(options.file, options.articles)
    measurements = [
        row
        for number, article in enumerate(articles, 1)
        for row in _measure(tools, article, number, options.max_words)
    ]
    if not measurements:
        raise SystemExit(f"no article of {options.file} has {MIN_WORDS} words or more")
    summary = summarise(measurements)
    report |= {
        "sides": {"newsie": {"packages": {"torch": torch.__version__}}},
        "model": {"bundle": classifier.bundle.fingerprint, "student": student.fingerprint()},
        "articles": len({row["article"] for row in measurements}),
        "summary": summary,
        "measurements": measurements,
    }
    write_report(options.results, report, render(report))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, help="folder of a run of newsie train: runs/NAME")
    parser.add_argument("--student", type=Path, help="float student [RUN/student-*/model]")
    parser.add_argument("--model", type=Path, help="its bundle [RUN/bundle-*]")
    parser.add_argument("--file", type=Path, default=SAMPLE, help="articles [the sample]")
    parser.add_argument("--articles", type=positive, default=200, help="drawn of the file [200]")
    parser.add_argument("--max-words", type=positive, default=128, help="as in explain [128]")
    parser.add_argument("--steps", type=positive, default=32, help="of the integral [32]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.run is None and (options.student is None or options.model is None):
        parser.error("give --run, or both --student and --model")
    return options


def _only(run: Path, pattern: str) -> Path:
    """What a run holds of that name, if it is one."""
    found = sorted(run.glob(pattern))
    if not found:
        raise SystemExit(f"{run} holds no {pattern}; it must be the folder of a finished run")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(run)) for path in found)
        raise SystemExit(f"{run} holds several: {names}; choose with --student and --model")
    return found[0]


def _take(file: Path, count: int) -> list[Article]:
    articles = list(islice(ArticleReader(file), 100_000))
    return random.Random(0).sample(articles, min(count, len(articles)))


def _measure(
    tools: Attributions, article: Article, number: int, max_words: int
) -> list[Measurement]:
    """A row for each task of an article."""
    reading = tools.read(article, max_words)
    if reading.words < MIN_WORDS:
        return []
    whole = tools.probabilities([reading.ids])
    occluded = {REMOVED: tools.occlusion(reading), FLOAT: tools.occlusion(reading, quantized=False)}
    if tools.mask_id is not None:
        occluded[MASKED] = tools.occlusion(reading, masked=True)
    chance = np.random.default_rng(number).permutation(reading.words).astype(np.float64)
    rows = []
    for task in tools.classifier.tasks:
        label = int(whole[task][0].argmax())
        effects = {name: found[task][:, label] for name, found in occluded.items()}
        effects[GRADIENT] = tools.gradient_times_input(reading, task, label)
        effects[INTEGRATED] = tools.integrated_gradients(reading, task, label)
        effects[CHANCE] = chance
        rows.append(
            {
                "article": number,
                "task": task,
                "words": reading.words,
                "probability": float(whole[task][0, label]),
                "agreement": _agreement(effects),
                "loss": _loss(tools, reading, task, label, effects),
            }
        )
    return rows


def _agreement(effects: Mapping[str, Floats]) -> dict[str, dict[str, float | None]]:
    """Occlusion -> other method -> Spearman's rank correlation; None where all words are equal."""
    return {
        one: {
            other: _correlate(effects[one], effects[other])
            for other in effects
            if other not in OCCLUSIONS
        }
        for one in OCCLUSIONS
        if one in effects
    }


def _correlate(one: Floats, other: Floats) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other).statistic)


def _loss(
    tools: Attributions, reading: Reading, task: str, label: int, effects: Mapping[str, Floats]
) -> dict[str, dict[str, float]]:
    """Method -> how its words go -> by how much the probability falls."""
    count = max(1, round(SHARE_LOST * reading.words))
    gone = {name: np.argsort(-x, kind="stable")[:count].tolist() for name, x in effects.items()}
    ways = {"left out": None} | ({} if tools.mask_id is None else {"masked": tools.mask_id})
    rows = [reading.without(words, mask) for words in gone.values() for mask in ways.values()]
    found = tools.probabilities([reading.ids, *rows])[task][:, label]
    fallen = iter((found[0] - found[1:]).tolist())
    return {name: {way: next(fallen) for way in ways} for name in gone}


def summarise(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Task -> agreement and loss, means with intervals; "all" is the mean of an article's tasks."""
    tasks = list(dict.fromkeys(row["task"] for row in measurements))
    return {
        task: {
            "agreement": _means(
                [r for r in measurements if task in ("all", r["task"])], "agreement"
            ),
            "loss": _means([r for r in measurements if task in ("all", r["task"])], "loss"),
        }
        for task in [*tasks, "all"]
    }


def _means(rows: Sequence[Measurement], name: str) -> dict[str, dict[str, dict[str, float]]]:
    methods = rows[0][name]
    return {
        one: {other: _mean([(r["article"], r[name][one][other]) for r in rows]) for other in others}
        for one, others in methods.items()
    }


def _mean(values: Sequence[tuple[int, float | None]]) -> dict[str, float]:
    """The mean over articles, of the mean of each, with a 95 % percentile bootstrap interval."""
    by_article: dict[int, list[float]] = {}
    for article, value in values:
        if value is not None:
            by_article.setdefault(article, []).append(value)
    means = np.array([np.mean(found) for found in by_article.values()])
    if not len(means):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "articles": 0}
    drawn = np.random.default_rng(0).integers(0, len(means), (RESAMPLES, len(means)))
    low, high = np.quantile(means[drawn].mean(axis=1), [0.025, 0.975])
    return {
        "mean": float(means.mean()),
        "low": float(low),
        "high": float(high),
        "articles": len(means),
    }


def render(report: Mapping[str, Any]) -> str:
    """Title and the two tables."""
    summary = report["summary"]
    others = (GRADIENT, INTEGRATED, FLOAT, CHANCE)
    agreement = [
        [task, one, *(_text(found["agreement"][one][other]) for other in others)]
        for task, found in summary.items()
        for one in found["agreement"]
    ]
    ways = list(next(iter(summary["all"]["loss"].values())))
    loss = [
        [name, *(_text(found[way], 100, 1) for way in ways)]
        for name, found in summary["all"]["loss"].items()
    ]
    return (
        "# Word by word\n\nRank correlation (Spearman) of what leaving a word out of the int8 student "
        "changes with other methods,\nmean over "
        f"{report['articles']:,} articles, [low, high]: 95 % bootstrap interval over articles.\n\n"
        f"{table(('task', 'int8 student', *others), agreement)}\n"
        f"By how many points the probability falls when the {SHARE_LOST:.0%} of the words that a method "
        "ranks highest go, all tasks.\n\n"
        f"{table(('ranked by', *(f'words {way}' for way in ways)), loss)}"
    )


def _text(found: Mapping[str, float], unit: float = 1, decimals: int = 2) -> str:
    mean, low, high = (unit * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


if __name__ == "__main__":
    run_command(main)
