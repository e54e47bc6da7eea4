from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from newsie.data.encoding import Encoder, EncodingPolicy, pad
from newsie.laboratory.attacks import EDITS, _descend, attack, gradient_attack
from newsie.training.model import MultiTaskModel
from tests.tiny import LABELS, tiny_articles, tiny_tokenizer

CPU = torch.device("cpu")


def random() -> np.random.Generator:
    return np.random.default_rng(3)


def test_edits_keep_the_words_of_an_article_recognisable() -> None:
    words = [
        "the",
        "striker",
        "leaves",
        "the",
        "league",
        "before",
        "the",
        "season",
        "ends",
        "with",
        "a",
        "goal",
    ] * 5
    typos, capitals, swaps = (
        EDITS[n](list(words), random()) for n in ("typos", "capitals", "swaps")
    )
    assert capitals == [word.upper() for word in words]
    assert sorted(swaps) == sorted(words) != swaps
    changed = [(a, b) for a, b in zip(words, typos, strict=True) if a != b]
    assert changed
    assert all(sorted(a) == sorted(b) and a[0] == b[0] and len(a) > 3 for a, b in changed)
    assert all(edit([], random()) == [] for edit in EDITS.values())


def test_the_attack_never_leaves_its_ball_and_does_more_harm_the_larger_that_is(
    tiny_student: MultiTaskModel,
) -> None:
    articles = tiny_articles(48)
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(32))
    ids, gold = encoder.encode(articles).ids, LABELS.encode(articles)
    table = cast(nn.Embedding, tiny_student.encoder.get_input_embeddings())
    shares, before = [], table.weight.clone()
    for radius in (0.0, 0.5, 4.0):
        found = gradient_attack(tiny_student, ids, gold, radius, pad_id=0, device=CPU)
        known = gold["section"] >= 0
        shares.append((found["section"][known] == gold["section"][known]).mean())
    assert shares[0] >= shares[1] >= shares[2]
    assert shares[0] > shares[2]

    input_ids, mask = (torch.from_numpy(array) for array in pad(ids[:8], 0))
    wanted = {task: torch.from_numpy(column[:8]) for task, column in gold.items()}
    moved = _descend(tiny_student, table, input_ids, mask, wanted, 0.3).norm(dim=-1)
    assert 0 < moved.max() <= 0.3 + 1e-5
    assert (moved[mask == 0] == 0).all()
    torch.testing.assert_close(table.weight, before)  # nothing of it stays behind

    accuracy = attack(tiny_student, encoder, articles, gold, CPU)
    assert list(accuracy) == ["none", "typos", "capitals", "swaps", "gradient 0.1", "gradient 0.3"]
    assert accuracy["capitals"] == accuracy["none"]  # this tokenizer knows no case
