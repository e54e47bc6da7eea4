from __future__ import annotations

import numpy as np
import torch

from newsie.data.encoding import Encoder, EncodingPolicy
from newsie.laboratory.attacks import EDITS, attack, gradient_attack
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


def test_the_attack_leaves_its_ball_never_and_does_more_harm_the_larger_it_is(
    tiny_student: MultiTaskModel,
) -> None:
    articles = tiny_articles(48)
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(32))
    ids, gold = encoder.encode(articles).ids, LABELS.encode(articles)
    shares, before = [], tiny_student.encoder.get_input_embeddings().weight.clone()
    for radius in (0.0, 0.5, 4.0):
        found = gradient_attack(tiny_student, ids, gold, radius, pad_id=0, device=CPU)
        known = gold["section"] >= 0
        shares.append((found["section"][known] == gold["section"][known]).mean())
    assert shares[0] >= shares[1] >= shares[2]
    assert shares[0] > shares[2]
    # Nothing of it stays behind.
    torch.testing.assert_close(tiny_student.encoder.get_input_embeddings().weight, before)
    found = attack(tiny_student, encoder, articles, gold, CPU)
    assert list(found) == ["none", "typos", "capitals", "swaps", "gradient 0.1", "gradient 0.3"]
    assert found["capitals"] == found["none"]  # this tokenizer knows no case
