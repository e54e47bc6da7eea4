from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from newsie.data.encoding import VIEWS, View
from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.training.batches import Batches, TokenStore, TrainingSet


def training_set(count: int = 500, *, soft: bool = False) -> TrainingSet:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 60, count)
    full = TokenStore.from_rows([[2, *range(10, 8 + int(n)), 3] for n in lengths], 0)
    headline = TokenStore.from_rows([[2, 7, 3] for _ in lengths], 0)
    labels = {"section": np.where(random.random(count) < 0.5, random.integers(0, 3, count), IGNORE)}
    logits: dict[View, dict[str, NDArray[np.float16]]] = {
        view: {"section": np.full((count, 3), value, np.float16)}
        for view, value in zip(VIEWS, (1, 2), strict=True)
    }
    corpus = np.repeat([0, 1], [count * 9 // 10, count - count * 9 // 10])
    return TrainingSet(
        {"full": full, "headline": headline}, labels, corpus, logits if soft else None
    )


def make(count: int = 500, **options: object) -> Batches:
    defaults: dict[str, object] = {"batch_size": 16, "max_tokens": 32, "headline_share": 0.3}
    return Batches(training_set(count), **{**defaults, **options})  # type: ignore[arg-type]


def test_an_epoch_holds_every_article_once() -> None:
    indices, _ = make().epoch(0)
    assert sorted(np.concatenate(indices)) == list(range(500))
    assert {len(batch) for batch in indices} <= {15, 16}


@pytest.mark.parametrize("count", [1, 15, 16, 17, 23, 24, 33])
@pytest.mark.parametrize("sampling_temperature", [1.0, 3.0])
def test_no_batch_exceeds_its_size(count: int, sampling_temperature: float) -> None:
    corpus = np.arange(count) % 5  # drawing from five corpora rounds five times
    data = replace(training_set(count), corpus=corpus)
    batches = replace(make(count, sampling_temperature=sampling_temperature), data=data)
    sizes = [len(indices) for indices in batches.epoch(0)[0]]
    assert len(sizes) == batches.steps
    assert 1 <= min(sizes) <= max(sizes) <= 16


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first, again, other = make().epoch(3), make().epoch(3), make(seed=1).epoch(3)
    assert all((a == b).all() for a, b in zip(first[0], again[0], strict=True))
    assert any((a != b).any() for a, b in zip(first[0], other[0], strict=True) if len(a) == len(b))
    assert (make().epoch(0)[1] != make().epoch(1)[1]).any()


def test_from_step_continues_the_same_sequence() -> None:
    batches = make()
    source, resumed = batches.from_step(0), batches.from_step(40)
    for _ in range(40):
        next(source)
    for _ in range(30):  # across the end of an epoch
        (a, views_a), (b, views_b) = next(source), next(resumed)
        assert (a == b).all()
        assert (views_a == views_b).all()


def test_batches_are_of_like_length() -> None:
    batches = make(2000, headline_share=0.0, max_tokens=64)
    lengths = batches.data.tokens["full"].lengths
    spread = [int(np.ptp(lengths[indices])) for indices in batches.epoch(0)[0]]
    assert np.median(spread) <= 3
    assert np.ptp(lengths) > 50


def test_headline_share_is_kept() -> None:
    _, headline_only = make(5000).epoch(0)
    assert headline_only.mean() == pytest.approx(0.3, abs=0.03)


def test_sampling_temperature_evens_out_corpora() -> None:
    corpus = training_set().corpus
    plain, even = (np.concatenate(make(sampling_temperature=t).epoch(0)[0]) for t in (1.0, 1000.0))
    assert corpus[plain].mean() == pytest.approx(0.1)
    assert corpus[even].mean() == pytest.approx(0.5, abs=0.01)


def test_micro_batches_and_processes_share_a_batch_without_overlap() -> None:
    batches = replace(make(), data=training_set(soft=True))
    indices, headline_only = next(batches.from_step(0))
    whole = batches.micro_batches(indices, headline_only, micro_batch_size=100)
    parts = [
        piece
        for process in range(2)
        for piece in batches.micro_batches(
            indices, headline_only, micro_batch_size=3, process=process, processes=2
        )
    ]
    assert [len(p.input_ids) for p in parts] == [3, 3, 2, 3, 3, 2]
    assert all(p.size == 16 and p.labelled == whole[0].labelled for p in parts)
    gathered = torch.cat([p.labels["section"] for p in parts])
    assert sorted(gathered.tolist()) == sorted(whole[0].labels["section"].tolist())


def test_views_bring_their_own_soft_labels() -> None:
    batches = replace(make(), data=training_set(soft=True))
    indices, headline_only = next(batches.from_step(0))
    piece = batches.micro_batches(indices, headline_only, micro_batch_size=100)[0]
    assert piece.soft is not None
    assert (piece.soft["section"][:, 0].numpy() == np.where(headline_only, 2, 1)).all()


def test_cut_rows_keep_their_closing_token() -> None:
    store = TokenStore.from_rows([[2, 11, 12, 13, 14, 3], [2, 11, 3]], 0)
    assert store.row(0, 4).tolist() == [2, 11, 12, 3]
    assert store.row(1, 4).tolist() == [2, 11, 3]
    assert store.lengths.tolist() == [6, 3]


def test_more_processes_than_articles_are_refused() -> None:
    batches = make(10, batch_size=2)
    indices, headline_only = next(batches.from_step(0))
    with pytest.raises(TrainingError, match="cannot be shared by 4 processes"):
        batches.micro_batches(indices, headline_only, micro_batch_size=1, process=0, processes=4)


def test_no_articles_are_refused() -> None:
    with pytest.raises(TrainingError, match="no articles to train on"):
        make(0)


def test_articles_are_taken_and_joined_with_their_tokens_labels_and_soft_labels() -> None:
    data = training_set(5, soft=True)
    first, rest = data.take(np.array([4, 1])), data.take(np.array([0, 2, 3]))
    again = first.join(rest)
    for place, row in enumerate([4, 1, 0, 2, 3]):
        for view in VIEWS:
            assert list(again.tokens[view].row(place, 99)) == list(data.tokens[view].row(row, 99))
        assert again.labels["section"][place] == data.labels["section"][row]
        assert again.soft is not None
        assert data.soft is not None
        assert (again.soft["full"]["section"][place] == data.soft["full"]["section"][row]).all()
    assert len(again) == 5
    assert len(data.take(np.array([], np.int64))) == 0


def test_pieces_know_how_many_articles_of_the_batch_are_labelled() -> None:
    batches = make()
    indices, headline_only = next(batches.from_step(0))
    labelled = int((batches.data.labels["section"][indices] != IGNORE).sum())
    assert 0 < labelled < len(indices)
    for size in (3, 100):
        pieces = batches.micro_batches(indices, headline_only, micro_batch_size=size)
        assert {piece.labelled["section"] for piece in pieces} == {labelled}
