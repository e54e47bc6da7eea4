"""Robustness of a model to edited articles, and to a gradient attack that knows its weights.

Papernot et al. 2016 (arXiv 1511.04508) found students distilled at a high temperature hard to attack.
Carlini & Wagner 2017 (arXiv 1608.04644) showed that the attack had failed because gradients vanish if a model
is confident. The attack here follows the margin between logits, which does not saturate. The result measures
robustness and does not promise security.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from newsie.data.articles import Article
from newsie.data.encoding import Encoder, View, pad
from newsie.data.urls import url_words
from newsie.labels import IGNORE
from newsie.training.batches import TokenStore
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits

__all__ = ["ATTACKS", "EDITS", "RADII", "attack", "gradient_attack"]

RADII = (0.1, 0.3)
"""The maximum shift of each token's embedding, relative to the mean length of a word embedding."""

SHARE = 0.2
"""The share of the words that are misspelt or swapped."""

STEPS, BATCH = 5, 32
Labels = Mapping[str, NDArray[np.int64]]


def attack(
    model: MultiTaskModel,
    encoder: Encoder,
    articles: Sequence[Article],
    gold: Labels,
    device: torch.device,
    view: View = "full",
    autocast: bool = False,
) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Return the predicted labels (N,) by attack and task; "none" is for unchanged articles.

    Args:
        model: the model.
        encoder: its tokenizer and policy.
        articles: N articles.
        gold: (N,) gold labels by task; IGNORE if there is none. The gradient attack works against them.
        device: device of the model.
        view: the view of each article that the model reads.
        autocast: run in bf16.
    """
    found = {}
    for name, edit in {"none": _as_it_is, **EDITS}.items():
        random = np.random.default_rng(0)
        edited = [_edited(article, edit, random) for article in articles]
        ids = encoder.encode(edited, view).ids
        store = TokenStore.from_rows(ids, encoder.pad_id)
        rows, longest = np.arange(len(ids)), encoder.policy.max_tokens
        logits = compute_logits(
            [model], store, rows, max_tokens=longest, device=device, autocast=autocast
        )
        found[name] = {task: z.argmax(axis=1) for task, z in logits.items()}
    ids = encoder.encode(articles, view).ids
    for radius in RADII:
        found[_gradient(radius)] = gradient_attack(
            model, ids, gold, radius, pad_id=encoder.pad_id, device=device, autocast=autocast
        )
    return found


def gradient_attack(
    model: MultiTaskModel,
    ids: Sequence[Sequence[int]],
    gold: Labels,
    radius: float,
    *,
    pad_id: int,
    device: torch.device,
    autocast: bool = False,
) -> dict[str, NDArray[np.int64]]:
    """Return the labels (N,) by task after moving the embeddings of all tokens against the gold labels.

    The attack is projected gradient descent (Madry et al. 2018, arXiv 1706.06083) on the sum over tasks of
    z[gold] - max z[other]. Each token stays within a ball around its embedding.

    Args:
        model: the model.
        ids: token ids of N articles.
        gold: (N,) by task; IGNORE if there is none.
        radius: radius of the ball, relative to the mean length of a word embedding.
        pad_id: the id of padding.
        device: device of the model.
        autocast: run in bf16.
    """
    table = model.encoder.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    bound = radius * float(table.weight.detach().norm(dim=1).mean())
    answers: dict[str, list[NDArray[np.int64]]] = {task: [] for task in model.labels.names}
    model.eval()
    for start in range(0, len(ids), BATCH):
        stop = start + BATCH
        input_ids, mask = (
            torch.from_numpy(array).to(device) for array in pad(ids[start:stop], pad_id)
        )
        wanted = {t: torch.from_numpy(column[start:stop]).to(device) for t, column in gold.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            moved = _descend(model, table, input_ids, mask, wanted, bound)
            with torch.no_grad(), _added(table, moved):
                for task, logits in model(input_ids, mask).items():
                    answers[task].append(logits.argmax(dim=-1).cpu().numpy())
    return {task: np.concatenate(parts) for task, parts in answers.items()}


def _descend(
    model: nn.Module,
    table: nn.Embedding,
    input_ids: Tensor,
    mask: Tensor,
    gold: Mapping[str, Tensor],
    bound: float,
) -> Tensor:
    """Return the shift of the embeddings (B, T, H), at most `bound` long for tokens and 0 for padding."""
    delta = torch.zeros(*input_ids.shape, table.embedding_dim, device=input_ids.device)
    for _ in range(STEPS):
        delta.requires_grad_()
        with _added(table, delta):
            margin = _margin(model(input_ids, mask), gold)
        [gradient] = torch.autograd.grad(margin, delta)
        step = gradient / (gradient.norm(dim=-1, keepdim=True) + 1e-12)
        delta = (delta - 2 * bound / STEPS * step * mask[..., None]).detach()
        length = delta.norm(dim=-1, keepdim=True)
        delta = delta * torch.clamp(bound / (length + 1e-12), max=1.0)
    return delta


def _margin(logits: Mapping[str, Tensor], gold: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over tasks and articles of the gold label's logit minus the best other logit."""
    total = torch.zeros(())
    for task, z in logits.items():
        known = gold[task] != IGNORE
        z, wanted = z[known], gold[task][known][:, None]
        own = z.gather(1, wanted)
        other = z.scatter(1, wanted, -torch.inf).max(dim=1, keepdim=True).values
        total = total.to(z.device) + (own - other).sum()
    return total


@contextmanager
def _added(table: nn.Embedding, delta: Tensor) -> Iterator[None]:
    """Add `delta` to the output of the word embeddings within the block."""
    handle = table.register_forward_hook(lambda module, inputs, output: output + delta)
    try:
        yield
    finally:
        handle.remove()


def _edited(article: Article, edit: Edit, random: np.random.Generator) -> Article:
    headline, body = (" ".join(edit(t.split(), random)) for t in (article.headline, article.body))
    address = "-".join(edit(url_words(article.url).split(), random))
    return replace(article, headline=headline, body=body, url=address)


Edit = Callable[[list[str], np.random.Generator], list[str]]
"""A function from words to edited words that people would still understand."""


def _as_it_is(words: list[str], random: np.random.Generator) -> list[str]:
    return words


def misspell(words: list[str], random: np.random.Generator) -> list[str]:
    """Swap two neighbouring letters, never the first, in some words of 4 letters or more."""
    chosen = random.random(len(words)) < SHARE
    result = []
    for word, slip in zip(words, chosen, strict=True):
        if slip and len(word) > 3:
            at = int(random.integers(1, len(word) - 1))
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        result.append(word)
    return result


def capitalise(words: list[str], random: np.random.Generator) -> list[str]:
    """Write all words in capital letters, as some headlines are; an uncased tokenizer ignores this."""
    return [word.upper() for word in words]


def swap_words(words: list[str], random: np.random.Generator) -> list[str]:
    """Swap some words with the next one."""
    result = list(words)
    for at in np.flatnonzero(random.random(max(0, len(words) - 1)) < SHARE):
        result[at], result[at + 1] = result[at + 1], result[at]
    return result


EDITS: Mapping[str, Edit] = {"typos": misspell, "capitals": capitalise, "swaps": swap_words}


def _gradient(radius: float) -> str:
    return f"gradient {radius:g}"


ATTACKS = ("none", *EDITS, *map(_gradient, RADII))
"""The names of the attacks, in the order of tables; "none" is the unchanged article."""
