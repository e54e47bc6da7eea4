"""What makes training fast: the loop as it is, and without one thing at a time.

    python -m benchmarks.training --data DIR

A student of 3 layers in MiniLM's shape, from the same random weights, goes through the same articles with
gold labels. The arms take turns. Beside each speed stands the loss of the last steps: what only
changes how it is computed must not change that.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DistilBertConfig, DistilBertModel

from benchmarks.corpus import article_files
from benchmarks.entry import run_command
from benchmarks.report import RESULTS, Spread, circumstances, ratios, table, write_report
from benchmarks.sides import positive
from newsie.data.encoding import VIEWS, EncodingPolicy
from newsie.data.readers import read_articles
from newsie.labels import LabelRule, LabelSpace, Task
from newsie.training.batches import Batches, TokenStore, TrainingSet
from newsie.training.config import FitConfig
from newsie.training.loop import build_optimizer
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.precision import DTYPES, measure_gflops
from newsie.training.tokens import open_encoder

TASK = "section"
MAX_TOKENS = 256
SHAPE = {
    "n_layers": 3,
    "dim": 384,
    "n_heads": 12,
    "hidden_dim": 1_536,
    "max_position_embeddings": 512,
}
LAST = 5
"""Steps whose mean loss is compared."""

Measurement = dict[str, Any]


class WholeLastLayer(MultiTaskModel):
    """Computes all tokens in the last layer, not only the first, whose state alone is used."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        first = self.encoder(input_ids, attention_mask).last_hidden_state[:, 0]
        return {name: head(first) for name, head in self.heads.items()}


class UnsortedBatches(Batches):
    """Articles of any length together."""

    def epoch(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return np.array_split(order, self.steps), np.zeros(len(self.data), np.bool_)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: for people.
        precision: of products, fp32 or bf16.
        fused: AdamW in one pass over all weights.
        sorted: batches of like length.
        first_token: the last layer computes the first token alone.
        threads: PyTorch's; 0 means as many as it takes by itself.
    """

    title: str
    precision: str
    fused: bool = True
    sorted: bool = True
    first_token: bool = True
    threads: int = 0


def arms(faster: str, slower: str) -> list[Arm]:
    """All that is compared; the first is what `newsie train` does on this machine."""
    return [
        Arm("as `newsie train` does it", faster),
        Arm("batches of any length", faster, sorted=False),
        Arm("AdamW weight by weight", faster, fused=False),
        Arm("all tokens in the last layer", faster, first_token=False),
        Arm("one thread", faster, threads=1),
        Arm(f"{slower} for {faster}", slower),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("training", given)
    speed = {name: measure_gflops(dtype, torch.device("cpu")) for name, dtype in DTYPES.items()}
    slower, faster = sorted(speed, key=lambda name: speed[name])
    chosen, threads = arms(faster, slower), torch.get_num_threads()
    data, labels = _training_set(options)
    torch.manual_seed(0)
    model = MultiTaskModel(_encoder(), labels)
    measurements = [
        {"round": number, **measure(arm, model, data, options.batch_size, threads)}
        for number in range(1, options.rounds + 1)
        for arm in chosen
    ]
    summary = summarise(measurements)
    report |= {
        "sides": {"all": {"packages": {"torch": torch.__version__}}},
        "gflops": speed,
        "articles": len(data),
        "summary": summary,
        "measurements": measurements,
    }
    write_report(options.results, report, render(summary, data))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder with newsapi/*.parquet [NEWSIE_DATA, or else the project's sample]",
    )
    parser.add_argument("--articles", type=positive, default=640, help="of an epoch [640]")
    parser.add_argument("--batch-size", type=positive, default=32, help="[32]")
    parser.add_argument("--rounds", type=positive, default=3, help="[3]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def _training_set(options: argparse.Namespace) -> tuple[TrainingSet, LabelSpace]:
    rules = {TASK: LabelRule(TASK)}
    found = read_articles(article_files(options.data)[0], rules=rules)
    articles = [article for article in found if TASK in article.labels][: options.articles]
    names = sorted({article.labels[TASK] for article in articles})
    labels = LabelSpace((Task(TASK, tuple(names)),))
    encoder = open_encoder("minilm", EncodingPolicy(MAX_TOKENS))
    tokens = {
        view: TokenStore.from_rows(encoder.encode(articles, view).ids, encoder.pad_id)
        for view in VIEWS
    }
    corpus = np.zeros(len(articles), np.int64)
    return TrainingSet(tokens, labels.encode(articles), corpus), labels


def _encoder() -> DistilBertModel:
    return DistilBertModel(DistilBertConfig.from_dict(SHAPE))


def measure(
    arm: Arm, start: MultiTaskModel, data: TrainingSet, batch_size: int, threads: int
) -> Measurement:
    """One epoch of an arm from the given weights, which stay as they are."""
    torch.set_num_threads(arm.threads or threads)
    torch.manual_seed(0)
    model = copy.deepcopy(start).train()
    if not arm.first_token:
        model.__class__ = WholeLastLayer
    kind = Batches if arm.sorted else UnsortedBatches
    batches = kind(data, batch_size, MAX_TOKENS)
    losses = _train(arm, model, batches)
    next(losses)  # to warm up; its step counts for the weights, not for the time
    started = time.perf_counter()
    found = list(losses)
    seconds = time.perf_counter() - started
    rate = len(data) * len(found) / batches.steps / seconds
    print(f"{arm.title}: {rate:,.1f} articles/s", file=sys.stderr)
    return {"arm": arm.title, "articles_per_second": rate, "loss": mean(found[-LAST:])}


def optimizer_of(arm: Arm, model: MultiTaskModel) -> torch.optim.AdamW:
    """That of `newsie train`, or the same without its fused step."""
    optimizer = build_optimizer(model, FitConfig())
    for group in optimizer.param_groups:
        group["fused"] = arm.fused
        group["foreach"] = False
    return optimizer


def _train(arm: Arm, model: MultiTaskModel, batches: Batches) -> Iterator[float]:
    """The steps of `newsie.training.loop.fit`, without what they do not spend time on; the losses."""
    optimizer, loss = optimizer_of(arm, model), HardLoss({})
    source = batches.from_step(0)
    for _ in range(batches.steps):
        indices, headline_only = next(source)
        total = 0.0
        for piece in batches.micro_batches(indices, headline_only, micro_batch_size=len(indices)):
            with _precision(arm.precision):
                value = loss(model(piece.input_ids, piece.attention_mask), piece)
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield total


def _precision(name: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if name == "bf16" else nullcontext()


def summarise(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each arm, its speed, its share of the first arm's in the same round, and its loss."""

    def values(title: str, name: str) -> list[float]:
        return [row[name] for row in measurements if row["arm"] == title]

    rate, first = "articles_per_second", measurements[0]["arm"]
    return {
        title: {
            rate: asdict(Spread.of(values(title, rate))),
            "ratio": asdict(ratios(values(title, rate), values(first, rate))),
            "loss": asdict(Spread.of(values(title, "loss"))),
        }
        for title in dict.fromkeys(row["arm"] for row in measurements)
    }


def render(summary: Mapping[str, Any], data: TrainingSet) -> str:
    """Title and table."""
    rows = [
        [
            title,
            Spread(**found["articles_per_second"]).text(1),
            Spread(**found["ratio"]).text(2),
            f"{found['loss']['median']:.3f}",
        ]
        for title, found in summary.items()
    ]
    tokens = np.minimum(data.tokens["full"].lengths, MAX_TOKENS).mean()
    return (
        "# Training\n\n"
        f"{table(('', 'articles/s', 'of the first', 'loss at the end'), rows)}\n"
        "Medians (least–greatest); ratios are those of the same round. 3 layers x 384, "
        f"{len(data):,} articles of {tokens:.0f} tokens on average, forward, backward and step.\n"
    )


if __name__ == "__main__":
    run_command(main)
