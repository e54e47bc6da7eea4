from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy
from newsie.labels import IGNORE
from newsie.laboratory.mixtures import (
    MixedBatch,
    Mixtures,
    add_mixtures,
    bisect_shares,
    boundary_pairs,
    draw_mixtures,
    mix_embeddings,
    mixture_logits,
)
from newsie.training.batches import Batches, TokenStore, TrainingSet
from newsie.training.loop import fit
from newsie.training.losses import DistillationLoss
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits
from newsie.training.student import student_from_teacher
from tests.tiny import LABELS, tiny_articles, tiny_tokenizer
from tests.training.tiny_run import CONFIG

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tiny_student: MultiTaskModel) -> TrainingSet:
    """48 articles with the answers of the tiny student as soft labels."""
    articles = tiny_articles(48)
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(24))
    tokens = {v: TokenStore.from_rows(encoder.encode(articles, v).ids, 0) for v in VIEWS}
    rows = np.arange(len(articles))
    soft = {
        view: {
            task: logits.astype(np.float16)
            for task, logits in compute_logits(
                [tiny_student], tokens[view], rows, max_tokens=24, device=CPU
            ).items()
        }
        for view in VIEWS
    }
    return TrainingSet(tokens, LABELS.encode(articles), np.zeros(len(articles), np.int64), soft)


def test_embeddings_are_mixed_by_hand_and_only_within_the_block(
    tiny_student: MultiTaskModel,
) -> None:
    table = tiny_student.encoder.get_input_embeddings()
    ids, partners = torch.tensor([[5, 6], [7, 8]]), torch.tensor([[9, 5], [6, 6]])
    with mix_embeddings(tiny_student, partners, torch.tensor([0.25, 1.0])):
        mixed = table(ids)
    torch.testing.assert_close(mixed[0], 0.25 * table(ids[0]) + 0.75 * table(partners[0]))
    torch.testing.assert_close(mixed[1], table(ids[1]))
    assert table(ids).shape == (2, 2, 32)


def test_a_mixture_with_itself_or_of_a_whole_share_is_the_article(
    tiny_student: MultiTaskModel, data: TrainingSet
) -> None:
    rows = np.arange(48)
    mixtures = Mixtures(rows, rows, np.linspace(0, 1, 48, dtype=np.float32))
    found = mixture_logits([tiny_student], data.tokens["full"], mixtures, max_tokens=24, device=CPU)
    wanted = compute_logits([tiny_student], data.tokens["full"], rows, max_tokens=24, device=CPU)
    np.testing.assert_allclose(found["section"], wanted["section"], atol=1e-4)
    none = Mixtures(rows[:0], rows[:0], np.empty(0, np.float32))
    empty = mixture_logits([tiny_student], data.tokens["full"], none, max_tokens=24, device=CPU)
    assert empty["section"].shape == (0, 3)


def test_pairs_lie_on_both_sides_and_begin_with_what_the_teacher_gets_right(
    data: TrainingSet,
) -> None:
    assert data.soft is not None
    logits = data.soft["full"]
    pairs, borders = boundary_pairs(logits, data.labels, np.random.default_rng(0))
    assert len(pairs) == len(borders) > 5
    for first, second, (task, own, other) in zip(pairs.first, pairs.second, borders, strict=True):
        assert own != other
        assert logits[task][first].argmax() == own == data.labels[task][first]
        assert logits[task][second].argmax() == other
    blind = {task: np.full(48, IGNORE) for task in data.labels}
    assert len(boundary_pairs(logits, blind, np.random.default_rng(0))[0]) == 0


def test_at_the_share_that_is_found_the_teacher_hesitates(
    tiny_student: MultiTaskModel, data: TrainingSet
) -> None:
    assert data.soft is not None
    tokens = data.tokens["full"]
    pairs, borders = boundary_pairs(data.soft["full"], data.labels, np.random.default_rng(0))
    found = bisect_shares([tiny_student], tokens, pairs, borders, max_tokens=24, device=CPU)
    assert 0 < len(found) <= len(pairs)
    kept = {(int(a), int(b)) for a, b in zip(found.first, found.second, strict=True)}
    chosen = [
        border
        for a, b, border in zip(pairs.first, pairs.second, borders, strict=True)
        if (int(a), int(b)) in kept
    ]

    def margins(share: np.ndarray) -> np.ndarray:
        mixed = Mixtures(found.first, found.second, share.astype(np.float32))
        z = mixture_logits([tiny_student], tokens, mixed, max_tokens=24, device=CPU)
        return np.array([z[t][i, own] - z[t][i, other] for i, (t, own, other) in enumerate(chosen)])

    # The border is within half a step on either side.
    assert (margins(np.minimum(1, found.share + 1 / 256)) >= -1e-4).all()
    assert (margins(np.maximum(0, found.share - 1 / 256)) <= 1e-4).all()


def test_mixtures_have_soft_labels_alone_and_can_be_learnt_from(
    tiny_student: MultiTaskModel, data: TrainingSet, tmp_path: Path
) -> None:
    mixtures = draw_mixtures(48, np.random.default_rng(1))
    soft = {
        view: {
            task: logits.astype(np.float16)
            for task, logits in mixture_logits(
                [tiny_student], data.tokens[view], mixtures, max_tokens=24, device=CPU
            ).items()
        }
        for view in VIEWS
    }
    both = add_mixtures(data, mixtures, soft)
    assert len(both) == 96
    assert (both.labels["section"][48:] == IGNORE).all()
    batches = Batches(both, 8, 24, headline_share=0.3)
    indices, headline_only = next(batches.from_step(0))
    [piece] = batches.micro_batches(indices, headline_only, micro_batch_size=8)
    assert isinstance(piece, MixedBatch)
    assert piece.soft is not None
    assert piece.input_ids.shape == piece.partner_ids.shape == piece.attention_mask.shape
    # The teacher answers each mixture of a batch as its soft labels say.
    with torch.no_grad():
        answers = piece.logits(tiny_student)
    torch.testing.assert_close(answers["section"], piece.soft["section"], atol=2e-2, rtol=1e-2)

    student = student_from_teacher(tiny_student, 1)
    accelerator = Accelerator(cpu=True)
    loss = DistillationLoss(2.0, 0.1)
    history = fit(student, batches, loss, CONFIG, accelerator=accelerator, directory=tmp_path)
    assert list(history.losses.values())[-1] < 5
    assert history.step == 24
