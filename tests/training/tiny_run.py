"""A tiny training run, here or as the whole of a process that tests can kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn
from torch.distributed.fsdp import fully_shard

from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy
from newsie.metrics.evaluation import macro_f1
from newsie.training.batches import Batches, TokenStore, TrainingSet
from newsie.training.config import FitConfig
from newsie.training.loop import History, fit
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits
from tests.tiny import LABELS, tiny_articles, tiny_encoder, tiny_tokenizer

CONFIG = FitConfig(
    epochs=2,
    batch_size=8,
    micro_batch_size=8,
    max_tokens=24,
    learning_rate=1e-3,
    head_learning_rate=5e-3,
    dropout=0.1,  # so that the random state matters
    checkpoint_minutes=1e-4,  # after nearly every step
)


def tiny_model(dropout: float = 0.0) -> MultiTaskModel:
    torch.manual_seed(0)
    model = MultiTaskModel(tiny_encoder(dropout=dropout), LABELS, dropout)
    for weight in model.heads.parameters():
        if weight.ndim > 1:  # the usual small start is for wide encoders
            nn.init.xavier_uniform_(weight)
    return model


def tiny_batches(batch_size: int = 8) -> Batches:
    articles = tiny_articles(120)
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(24))
    tokens = {
        v: TokenStore.from_rows(encoder.encode(articles, v).ids, encoder.pad_id) for v in VIEWS
    }
    data = TrainingSet(tokens, LABELS.encode(articles), np.zeros(len(articles), np.int64))
    return Batches(data, batch_size, 24, headline_share=0.3)


class ShardingAccelerator(Accelerator):  # type: ignore[misc]
    """Does on CPUs what Accelerate does on GPUs where FSDP is asked for: weights in slices."""

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
        places = {id(weight): name for name, weight in model.named_parameters()}
        fully_shard(model)
        slices = dict(model.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [slices[places[id(weight)]] for weight in group["params"]]
        return model, super().prepare(optimizer)

    def no_sync(self, model: nn.Module) -> Any:
        return nullcontext()


def run(directory: Path, *, slow: bool = False, sharded: bool = False, **options: Any) -> History:
    """Train the tiny model; `slow` sleeps a little at each evaluation, to be killed in time."""
    config = replace(CONFIG, **options)
    accelerator = (ShardingAccelerator if sharded else Accelerator)(cpu=True)
    batches, model = tiny_batches(config.batch_size), tiny_model(config.dropout)
    rows = np.arange(len(batches.data))

    def evaluate(model: nn.Module) -> float:
        time.sleep(0.5 if slow else 0)
        logits = compute_logits(
            [model], batches.data.tokens["full"], rows, max_tokens=24, device=accelerator.device
        )
        labels = batches.data.labels["section"]
        known = labels >= 0
        return macro_f1(logits["section"][known].argmax(-1), labels[known])

    history = fit(
        model,
        batches,
        HardLoss({}),
        config,
        accelerator=accelerator,
        directory=directory,
        evaluate=evaluate,
    )
    if accelerator.is_main_process:
        save_file(model.state_dict(), directory / "final.safetensors")
        content = replace(history, seconds=0.0).to_json()
        (directory / "history.json").write_text(json.dumps(content))
        (directory / "processes").write_text(str(accelerator.num_processes))
    return history


def run_alone(
    directory: Path, environment: Mapping[str, str] | None = None, **options: Any
) -> None:
    """The whole of a process: the run on one thread, with variables that say which of several it is."""
    os.environ.update(environment or {})
    torch.set_num_threads(1)
    run(directory, **options)
