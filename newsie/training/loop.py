"""The training loop for teachers and students, in one process or many, fresh or resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from newsie.errors import TrainingError
from newsie.training.batches import Batches, MicroBatch
from newsie.training.checkpoints import Checkpoints
from newsie.training.config import FitConfig
from newsie.training.losses import Loss
from newsie.training.progress import Progress
from newsie.training.sharding import is_sharded, make_whole

__all__ = ["History", "fit", "get_lr"]

LOG_EVERY = 50
"""The number of steps between two recorded losses."""


@dataclass
class History:
    """The state of a run besides weights and optimizer: its step, losses and scores.

    Attributes:
        step: the number of optimizer steps done.
        recent: the losses of the steps since the last entry of `losses`.
        losses: the mean loss since the previous entry, by step.
        scores: the mean macro-F1 on the validation articles, by step.
        best_step: the step of the best score; 0 before the first.
        stopped_early: True if patience ran out.
        seconds: the time spent training, over all resumptions.
    """

    step: int = 0
    recent: list[float] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    best_step: int = 0
    stopped_early: bool = False
    seconds: float = 0.0

    def note_loss(self, value: float, last: int) -> None:
        """Count a step and record its loss. `last` is the last step of the run."""
        self.step += 1
        self.recent.append(value)
        if self.step % LOG_EVERY == 0 or self.step == last:
            self.losses[self.step] = sum(self.recent) / len(self.recent)
            self.recent.clear()

    def is_time_to_evaluate(self, steps: int, evaluations: int) -> bool:
        """Return True if the current one of `steps` is among `evaluations` evenly spaced ones."""
        return self.step == steps or self.step % math.ceil(steps / evaluations) == 0

    def note_score(self, score: float, patience: int) -> bool:
        """Record the score of the current step. Return True if it is the best so far.

        Of equal scores the last is the best: with few validation articles, scores are often equal, and the
        later model has trained for longer.
        """
        best = max(self.scores.values(), default=-math.inf)
        self.scores[self.step] = score
        if score >= best:
            self.best_step = self.step
            return True
        worse = sum(step > self.best_step for step in self.scores)
        self.stopped_early = 0 < patience <= worse
        return False

    def newest(self) -> dict[str, float]:
        """Return the loss and score recorded at the current step, for trackers."""
        noted = {"loss": self.losses.get(self.step), "macro_f1": self.scores.get(self.step)}
        return {name: value for name, value in noted.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the history as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> History:
        """Build a history from the values of `to_json`."""
        losses, scores = (
            {int(step): value for step, value in content.pop(name).items()}
            for name in ("losses", "scores")
        )
        return cls(losses=losses, scores=scores, **content)


def get_lr(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the factor of the peak learning rate: a linear warmup to 1, then a linear decay to 0."""
    warmup = max(1, round(steps * warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def build_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.AdamW:
    """Return AdamW with separate learning rates for encoder and heads, and no weight decay of vectors."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith("heads."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.head_learning_rate if head else config.learning_rate,
                "peak_lr": config.head_learning_rate if head else config.learning_rate,
                "weight_decay": config.weight_decay if matrix else 0.0,
            }
            for (head, matrix), parameters in groups.items()
        ],
        fused=True,
    )


def fit(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    config: FitConfig,
    *,
    accelerator: Accelerator,
    directory: Path,
    evaluate: Callable[[nn.Module], float] | None = None,
    title: str = "training",
) -> History:
    """Train a model in place. It ends with the weights of its best evaluation.

    If a run is killed and called again with the same arguments, it resumes from the last checkpoint and
    ends with bit-identical weights.

    Args:
        model: maps (input_ids, attention_mask) to logits by task.
        batches: the training articles in their order.
        loss: the loss to minimise.
        config: the settings for fitting.
        accelerator: device, precision, processes and trackers.
        directory: the folder for checkpoints, which belongs to this run alone.
        evaluate: called periodically with the model; returns a score (higher is better).
        title: the title of the progress bar, and the prefix of the trackers' metrics.

    Raises:
        TrainingError: the loss is not finite.
    """
    steps = max(1, round(config.epochs * batches.steps))
    checkpoints = Checkpoints(directory, main=accelerator.is_main_process)
    optimizer = build_optimizer(model, config)
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    saved = checkpoints.load(model, optimizer)
    history = History.from_json(saved) if saved else History()
    source = batches.from_step(history.step)

    total = steps * batches.batch_size
    with Progress(title, total, enabled=accelerator.is_main_process) as progress:
        progress.resume(history.step * batches.batch_size)
        saved_at = clock = time.monotonic()
        while history.step < steps and not history.stopped_early:
            indices, headline_only = next(source)
            set_random_state(batches.seed, history.step, accelerator.process_index)
            factor = get_lr(history.step, steps, config.warmup_ratio)
            set_lr(optimizer, factor)
            pieces = batches.micro_batches(
                indices,
                headline_only,
                micro_batch_size=config.micro_batch_size,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
                progress=history.step / steps,
            )
            value = _backward(prepared, pieces, loss, accelerator)
            _check_loss(value, history.step)
            _update(prepared, prepared_optimizer, config, accelerator)
            history.note_loss(value, last=steps)
            progress.advance(len(indices), loss=value)
            if evaluate and history.is_time_to_evaluate(steps, config.evaluations):
                score = _score(model, evaluate, accelerator)
                if history.note_score(score, config.patience):
                    checkpoints.save_best(model)
                progress.note(f"macro-F1 {score:.4f} after {history.step} of {steps} steps")
            noted = history.newest() | {"lr": factor}
            accelerator.log({f"{title}/{name}": x for name, x in noted.items()}, history.step)
            if _is_time_to_save(model, saved_at, config, accelerator):
                saved_at = time.monotonic()
                history.seconds, clock = history.seconds + saved_at - clock, saved_at
                checkpoints.save(model, optimizer, history.to_json())
        history.seconds += time.monotonic() - clock

    accelerator.wait_for_everyone()
    if history.best_step:
        checkpoints.load_best(model)
    make_whole(model)
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    accelerator.free_memory()
    return history


def set_random_state(seed: int, step: int, process: int) -> None:
    """Seed dropout from the step, so that a resumed run needs no saved random state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def _backward(
    model: nn.Module, pieces: Sequence[MicroBatch], loss: Loss, accelerator: Accelerator
) -> float:
    """Accumulate the gradients of a batch over all micro-batches and processes. Return the batch's loss."""
    model.train()
    total = 0.0
    for number, piece in enumerate(pieces, start=1):
        piece = piece.to(accelerator.device)
        # Processes exchange gradients once per batch, with the last micro-batch.
        with nullcontext() if number == len(pieces) else accelerator.no_sync(model):
            share = loss(piece.logits(model), piece)
            # Processes average their gradients, but the shares of one batch must be added.
            accelerator.backward(share * accelerator.num_processes)
        total += float(share.detach())
    return _sum_over_processes(total, accelerator)


def _update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    accelerator: Accelerator,
) -> None:
    """Clip the gradients, take an optimizer step, and reset the gradients."""
    accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _check_loss(value: float, step: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at step {step}; lower the learning rate, or look for broken soft "
            "labels. The last checkpoint is kept"
        )


def _score(
    model: nn.Module, evaluate: Callable[[nn.Module], float], accelerator: Accelerator
) -> float:
    """Return the score of a model. It is the same on every process, so that all stop at the same step."""
    main = accelerator.is_main_process
    own = evaluate(model) if main or is_sharded(model) else 0.0
    return _sum_over_processes(own if main else 0.0, accelerator)


def _is_time_to_save(
    model: nn.Module, saved_at: float, config: FitConfig, accelerator: Accelerator
) -> bool:
    """Return True if a checkpoint is due. For a sharded model the main process decides for all."""
    due = time.monotonic() - saved_at > 60 * config.checkpoint_minutes
    if not is_sharded(model):
        return due
    return _sum_over_processes(float(due and accelerator.is_main_process), accelerator) > 0


def _sum_over_processes(value: float, accelerator: Accelerator) -> float:
    if accelerator.num_processes == 1:
        return value
    total = torch.tensor(value, dtype=torch.float32, device=accelerator.device)
    return float(accelerator.reduce(total, reduction="sum"))
