"""From a recipe to a bundle: data, teacher, soft labels, student, bundle.

Each stage writes into a folder named by the fingerprint of all that it depends on. A stage whose folder is
complete is skipped, one that was interrupted goes on, one whose inputs have changed gets a new folder: no
stale result can be used, and nothing is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from newsie.atomic import new_directory, write_text
from newsie.bundle import Lineage
from newsie.data.encoding import VIEWS, View
from newsie.evaluation import macro_f1
from newsie.labels import IGNORE
from newsie.training.batches import Batches, TokenStore, TrainingSet
from newsie.training.bundling import commit_id, make_bundle
from newsie.training.checkpoints import Checkpoints
from newsie.training.config import FitConfig, StudentConfig
from newsie.training.encoder import check_max_tokens, load_encoder
from newsie.training.fingerprints import digest, encoder_digest
from newsie.training.lessons import Lessons
from newsie.training.loop import History, fit
from newsie.training.losses import HardLoss, Loss
from newsie.training.model import MultiTaskModel
from newsie.training.nano import nano_student
from newsie.training.progress import Progress
from newsie.training.run import Run
from newsie.training.soft_labels import (
    SoftLabels,
    SoftLabelsHeader,
    compute_logits,
    compute_soft_labels,
    load_soft_labels,
)
from newsie.training.student import student_from_teacher
from newsie.version import __version__

__all__ = ["Pipeline", "Stage"]

Stage = Literal["data", "teacher", "soft-labels", "student", "bundle"]


class Pipeline(Run):
    """The stages of one recipe. Each property computes its stage, or opens what is there; see `Run`."""

    def run(self, until: Stage = "bundle") -> Path:
        """Run all stages up to one; returns the folder that holds its result.

        Raises:
            TrainingError: another process is at work in the same folder, or training fails.
            QualityGateError: the student is not good enough to become a bundle.
        """
        stages: dict[Stage, Callable[[], object]] = {
            "data": lambda: self.corpora,
            "teacher": lambda: self.teachers,
            "soft-labels": lambda: self.soft_labels,
            "student": lambda: self.student,
            "bundle": lambda: self.bundle,
        }
        with self.locked() if self.accelerator.is_main_process else nullcontext():
            stages[until]()
        return self.bundle if until == "bundle" else self.directory

    @property
    def absent(self) -> Mapping[str, Sequence[int]]:
        """Task -> class indices that gold labels must not unlearn: see `HardLoss`."""
        return {}

    @cached_property
    def teachers(self) -> list[MultiTaskModel]:
        """One fitted teacher for each seed."""
        self._check_lengths()
        return self._fit_teachers()

    def _fit_teachers(self) -> list[MultiTaskModel]:
        seeds = self.recipe.teacher.seeds
        return [self._teacher(*each) for each in zip(seeds, self.teacher_names, strict=True)]

    def _check_lengths(self) -> None:
        """Refuse inputs that are too long for an encoder before anything is fitted."""
        teacher, student = self.recipe.teacher, self.recipe.student
        seen = {"student.fit.max_tokens": student.fit.max_tokens}  # by both: soft labels
        check_max_tokens(
            teacher.encoder, {"teacher.fit.max_tokens": teacher.fit.max_tokens, **seen}
        )
        check_max_tokens(self.student_encoder, {**seen, "student.max_tokens": student.max_tokens})

    @property
    def teacher_names(self) -> list[str]:
        """Folders of the teachers, named by all that decides them."""
        config = self.recipe.teacher
        kind = [encoder_digest(config.encoder), asdict(config.fit)]
        rest = [self.weights, self.recipe.data.sampling_temperature, self.corpora_name]
        return [f"teacher-{digest(*kind, seed, *rest)}" for seed in config.seeds]

    def _teacher(self, seed: int, name: str) -> MultiTaskModel:
        config = self.recipe.teacher
        dropout = config.fit.dropout

        def build() -> MultiTaskModel:
            return MultiTaskModel(
                load_encoder(config.encoder, dropout), self.corpora.labels, dropout
            )

        return self.fitted(
            name,
            f"teacher {seed}",
            build,
            HardLoss(self.weights),
            config.fit,
            lambda: self.training_set(config.encoder, "train", config.fit.max_tokens),
            seed=seed,
            evaluate=lambda: self.validation_score(config.encoder, config.fit.max_tokens),
        )

    @cached_property
    def soft_labels(self) -> dict[View, SoftLabels]:
        """The teachers' answers to every training article, for every view that the student reads."""
        # The student sees what the teacher saw: the same tokens (arXiv 2106.05237).
        tokens = self.tokens(
            self.recipe.teacher.encoder, "train", self.recipe.student.taught_tokens
        )
        return self.soft_labels_of(self.teachers, tokens, self.corpora.name, self.recipe.student)

    def soft_labels_of(
        self,
        teachers: Sequence[MultiTaskModel],
        tokens: Mapping[View, TokenStore],
        data: str,
        student: StudentConfig,
    ) -> dict[View, SoftLabels]:
        """Teachers' answers to articles, for every view that a student reads.

        Args:
            teachers: see `compute_soft_labels`.
            tokens: the articles by view, encoded by the teachers' tokenizer.
            data: fingerprint of the articles.
            student: decides what the teachers read.
        """
        views = VIEWS if student.teacher_view == "same" else VIEWS[:1]
        max_tokens = student.taught_tokens
        models = [model.to(self.accelerator.device) for model in teachers]
        prints = [model.fingerprint() for model in models]
        name = digest(prints, max_tokens, data)
        stores: dict[View, SoftLabels] = {}
        for view in views:
            header = SoftLabelsHeader.of(
                prints, self.corpora.labels, data, view, max_tokens, len(tokens[view])
            )
            title = f"soft labels ({view})"
            enabled = self.accelerator.is_main_process
            directory = self.directory / f"soft-labels-{name}" / view
            with Progress(title, len(tokens[view]), enabled=enabled) as progress:
                self._compute_soft_labels(models, tokens[view], header, directory, progress)
            self.accelerator.wait_for_everyone()
            stores[view] = load_soft_labels(directory, header)
        return {view: stores.get(view, stores["full"]) for view in VIEWS}

    def _compute_soft_labels(
        self,
        teachers: Sequence[MultiTaskModel],
        tokens: TokenStore,
        header: SoftLabelsHeader,
        directory: Path,
        progress: Progress,
    ) -> None:
        """Fill a store, here or on Ray."""
        autocast = self.precision == "bf16"
        if self.ray:
            from newsie.training.ray_soft_labels import compute_soft_labels_on_ray, connect

            if self.accelerator.is_main_process:
                gpus = connect(self.ray)
                compute_soft_labels_on_ray(
                    teachers,
                    tokens,
                    header,
                    directory,
                    autocast=autocast,
                    gpus=gpus,
                    progress=progress,
                )
            return
        compute_soft_labels(
            teachers,
            tokens,
            header,
            directory,
            device=self.accelerator.device,
            autocast=autocast,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            progress=progress,
        )

    @cached_property
    def student(self) -> MultiTaskModel:
        """The student, distilled."""
        config, seed = self.recipe.student, self.recipe.seed
        soft = self.soft_labels
        origin = encoder_digest(self.student_encoder)
        name = digest(
            origin,
            asdict(config),
            seed,
            self.weights,
            self.recipe.data.sampling_temperature,
            asdict(soft["full"].header),
        )

        lessons = Lessons(self, self.teachers, config, stored=soft)
        build, loss = lessons.parts()
        return self.fitted(
            f"student-{name}",
            "student",
            build,
            loss,
            config.fit,
            lambda: lessons.training_set(seed=seed),
            seed=seed,
            evaluate=lambda: self.validation_score(
                self.student_encoder, config.fit.max_tokens, config.vocabulary
            ),
        )

    def new_student(self, teacher: MultiTaskModel, config: StudentConfig) -> MultiTaskModel:
        """A student as it is before it learns."""
        name = self.student_encoder
        encoder = None if config.encoder == "teacher" else load_encoder(name)
        pieces = self.pieces(name, config.vocabulary) if config.vocabulary else None
        if config.kind == "nano":
            source = teacher.encoder if encoder is None else encoder
            tokens = cast(Tensor, source.get_input_embeddings().weight)
            return nano_student(
                teacher.labels,
                tokens if pieces is None else tokens[pieces],
                hidden_size=config.hidden_size,
                pairs=config.pairs,
                dropout=config.fit.dropout,
            )
        return student_from_teacher(
            teacher, config.layers, encoder=encoder, dropout=config.fit.dropout, pieces=pieces
        )

    @cached_property
    def bundle(self) -> Path:
        """The student as a bundle: int8, calibrated, checked."""
        student, config = self.student, self.recipe.student
        name = digest(student.fingerprint(), self.recipe.to_json(), __version__)
        directory = self.directory / f"bundle-{name}"
        with self.accelerator.main_process_first():
            if not directory.exists():
                make_bundle(
                    student,
                    self.corpora,
                    self.encoder(self.student_encoder, config.max_tokens, config.vocabulary),
                    directory,
                    name=config.name or self.recipe.name,
                    max_int8_loss=self.recipe.quality.max_int8_loss,
                    lineage=Lineage(
                        teacher=digest(*self.soft_labels["full"].header.teacher),
                        data=self.corpora.name,
                        commit=commit_id(),
                        recipe=self.recipe.to_json(),
                    ),
                )
        return directory

    def fitted(
        self,
        name: str,
        title: str,
        build: Callable[[], MultiTaskModel],
        loss: Loss,
        config: FitConfig,
        data: Callable[[], TrainingSet],
        *,
        seed: int,
        evaluate: Callable[[], Callable[[nn.Module], float]] | None = None,
    ) -> MultiTaskModel:
        """Fit a model, or load it where the folder `name` says that it is done.

        Args:
            name: of the folder; holds the fingerprint of all that decides the model.
            title: for people.
            build: makes the model that is fitted.
            loss: what to minimise.
            config: how.
            data: makes the articles to learn from.
            seed: of heads, order, views and dropout.
            evaluate: makes what scores a model, whose best weights are kept; None keeps the last ones.
        """
        directory = self.directory / name
        if not (directory / "model").exists():
            batches = Batches(
                data(),
                config.batch_size,
                config.max_tokens,
                config.headline_share,
                self.recipe.data.sampling_temperature,
                seed,
            )
            torch.manual_seed(seed)
            model = build()
            history = fit(
                model,
                batches,
                loss,
                config,
                accelerator=self.accelerator,
                directory=directory,
                evaluate=evaluate() if evaluate else None,
                title=title,
            )
            if self.accelerator.is_main_process:
                self._keep(model, history, directory)
            self.accelerator.wait_for_everyone()
        return MultiTaskModel.load(directory / "model").eval()

    def _keep(self, model: MultiTaskModel, history: History, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)  # one without a checkpoint has no folder yet
        write_text(directory / "history.json", json.dumps(history.to_json(), indent=1))
        with new_directory(directory / "model") as aside:
            model.save(aside)
        Checkpoints(directory).clear()

    def validation_score(
        self, encoder: str, max_tokens: int, vocabulary: int = 0
    ) -> Callable[[nn.Module], float]:
        """Mean over tasks of the macro-F1 on the validation articles, headline and body."""
        data = self.training_set(encoder, "validation", max_tokens, vocabulary)
        rows = np.arange(len(data))

        def score(model: nn.Module) -> float:
            logits = compute_logits(
                [model],
                data.tokens["full"],
                rows,
                max_tokens=max_tokens,
                device=self.accelerator.device,
                autocast=self.precision == "bf16",  # as it is trained
            )
            scores = []
            for task, labels in data.labels.items():
                known = labels != IGNORE
                if known.any():
                    scores.append(macro_f1(logits[task][known].argmax(-1), labels[known]))
            return float(np.mean(scores))

        return score
