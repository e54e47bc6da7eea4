"""A run: the folder of a recipe's results, its processes, and what every stage reads: articles and tokens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from filelock import FileLock, Timeout

from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy, View
from newsie.errors import InputError, TrainingError
from newsie.training.batches import TokenStore, TrainingSet
from newsie.training.config import Recipe
from newsie.training.corpora import Corpora, load_corpora, prepare_corpora
from newsie.training.fingerprints import digest
from newsie.training.precision import choose_precision
from newsie.training.sources import data_fingerprint
from newsie.training.tokens import encode_split, open_encoder
from newsie.training.vocabulary import choose_pieces, trim_tokenizer

__all__ = ["Run", "data_folder", "locked"]


class Run:
    """Where the results of a recipe go, and what all of its stages have in common.

    Args:
        recipe: what to make.
        data: folder that holds the corpora.
        runs: folder for the results; those of this recipe go to `runs/NAME`.
        trackers: names of Accelerate's trackers, e.g. ["tensorboard"].
        ray: address of a Ray cluster that computes the soft labels; empty: this machine does.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        data: Path,
        runs: Path,
        trackers: Sequence[str] = (),
        ray: str = "",
    ) -> None:
        self.recipe = recipe
        self.ray = ray
        self.data = data
        self.directory = runs / recipe.name
        self.directory.mkdir(parents=True, exist_ok=True)
        # Said outright: several CPU processes find each other only if they know that they are.
        cpu = not torch.accelerator.is_available()
        # The others wait while one process reads the articles, which may take long.
        state = PartialState(cpu=cpu, timeout=timedelta(hours=24))
        with state.main_process_first():
            # Kept with the run: one that is resumed must compute as it did before.
            record = self.directory / "precision.json"
            self.precision = choose_precision(recipe.precision, record)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            cpu=cpu,
            log_with=list(trackers) or None,
            project_dir=str(self.directory),
        )
        if trackers:
            self.accelerator.init_trackers("trackers")

    def say(self, text: str) -> None:
        """A line of progress on stderr."""
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from working in the folder of this run; see `locked`."""
        return locked(self.directory)

    @cached_property
    def corpora_name(self) -> str:
        """Folder of the articles, named by all that decides them."""
        return f"data-{digest(data_fingerprint(self.recipe.data, self.data), self.recipe.seed)}"

    @cached_property
    def corpora(self) -> Corpora:
        """Articles read, cleaned, split and stored."""
        directory = self.directory / self.corpora_name
        with self.accelerator.main_process_first():
            if not directory.exists():
                self._prepare(directory)
        return load_corpora(directory)

    def _prepare(self, directory: Path) -> None:
        """Read, clean, split and store the articles."""
        prepare_corpora(self.recipe.data, self.data, directory, say=self.say, seed=self.recipe.seed)

    def encoder(self, name: str, max_tokens: int, vocabulary: int = 0) -> Encoder:
        """The tokenizer of an encoder with the policy of this run, and its pieces or the best of them."""
        whole = self._whole_encoder(name, max_tokens)
        if not vocabulary:
            return whole
        return Encoder(trim_tokenizer(whole.tokenizer, self.pieces(name, vocabulary)), whole.policy)

    def pieces(self, name: str, vocabulary: int) -> list[int]:
        """Ids of the word pieces that a student of a smaller vocabulary keeps of an encoder."""
        fitted = self.recipe.student.fit.max_tokens
        tokenizer = self._whole_encoder(name, fitted).tokenizer
        ids = self.tokens(name, "train", fitted)["full"].ids
        counts = np.bincount(ids, minlength=tokenizer.get_vocab_size())
        return choose_pieces(tokenizer, counts, vocabulary)

    def _whole_encoder(self, name: str, max_tokens: int) -> Encoder:
        return open_encoder(name, EncodingPolicy(max_tokens, self.corpora.site_suffixes))

    def tokens(
        self,
        encoder: str,
        split: str,
        max_tokens: int,
        vocabulary: int = 0,
        views: Sequence[View] = VIEWS,
    ) -> dict[View, TokenStore]:
        """Token ids of a split in some views, encoded once and memory-mapped."""
        tool = self.encoder(encoder, max_tokens, vocabulary)
        name = digest(tool.tokenizer.to_str(), asdict(tool.policy), self.corpora.name)
        with self.accelerator.main_process_first():
            return {
                view: encode_split(
                    tool,
                    self.corpora.articles(split),
                    view,
                    self.directory / f"tokens-{name}" / split,
                )
                for view in views
            }

    def training_set(
        self, encoder: str, split: str, max_tokens: int, vocabulary: int = 0
    ) -> TrainingSet:
        """The articles of a split, ready for a model with the tokenizer of `encoder`; no soft labels."""
        names = [corpus.name for corpus in self.recipe.data.corpora]
        corpus = np.array([names.index(name) for name in self.corpora.corpus_names(split)])
        return TrainingSet(
            self.tokens(encoder, split, max_tokens, vocabulary),
            self.corpora.targets(split),
            corpus,
        )

    @cached_property
    def student_encoder(self) -> str:
        """Name of the encoder that the student's layers and tokenizer come from."""
        name = self.recipe.student.encoder
        return self.recipe.teacher.encoder if name == "teacher" else name

    @property
    def weights(self) -> dict[str, float]:
        """Factor of each task's loss."""
        return {task.name: task.weight for task in self.recipe.data.tasks}


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from working in the same folder, which is there.

    Raises:
        TrainingError: one is at work there.
    """
    try:
        with FileLock(directory / ".lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"another newsie is at work in {directory}; wait for it, or choose another folder"
        ) from None


def data_folder(given: Path | None) -> Path:
    """The folder of the corpora: the one given, else NEWSIE_DATA, else the present one."""
    path = given or Path(os.environ.get("NEWSIE_DATA", "."))
    if not path.is_dir():
        raise InputError(
            f"the data folder {path} is not a directory; name one with --data or NEWSIE_DATA"
        )
    return path
