from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, pad
from newsie.data.urls import url_words
from newsie.laboratory.attacks import ATTACKS, EDITS, _descend, _edited, attack, gradient_attack
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

    attacked = attack(tiny_student, encoder, articles, gold, CPU)
    assert tuple(attacked) == ATTACKS
    assert all(set(answers) == set(gold) for answers in attacked.values())
    assert all(len(column) == 48 for answers in attacked.values() for column in answers.values())
    # This tokenizer knows no case.
    assert (attacked["capitals"]["section"] == attacked["none"]["section"]).all()


def test_who_reads_headlines_is_attacked_in_headlines(tiny_student: MultiTaskModel) -> None:
    whole = tiny_articles(24)
    alone = [replace(article, body="") for article in whole]
    encoder, gold = Encoder(tiny_tokenizer(), EncodingPolicy(32)), LABELS.encode(whole)
    one, two = (attack(tiny_student, encoder, x, gold, CPU, "headline") for x in (whole, alone))
    for name in ("none", "capitals", "gradient 0.1", "gradient 0.3"):
        assert (one[name]["section"] == two[name]["section"]).all()


def test_who_reads_addresses_is_attacked_in_their_words() -> None:
    article = Article("x", "y", url="https://a.example/sport/striker-leaves-the-league-again.html")
    edited = _edited(article, EDITS["capitals"], random())
    assert url_words(edited.url) == "STRIKER LEAVES THE LEAGUE AGAIN"
