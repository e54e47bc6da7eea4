"""Tiny real objects: articles that can be learnt, a tokenizer for their words, an encoder of 2 layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Replace
from tokenizers.pre_tokenizers import BertPreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import TemplateProcessing

from newsie.bundles.bundle import read_bundle, write_bundle
from newsie.data.articles import Article
from newsie.labels import LabelRule, LabelSpace, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORDS = {
    "sports": "goal match striker league coach derby penalty stadium keeper referee cup season",
    "science": "telescope orbit fossil enzyme glacier particle probe laboratory comet genome reef",
    "business": "shares profit merger bank tariff quarter investor retailer bond factory wages",
}
COMMON = "the a of in on after before says new first last week city people over with from at"
LABELS = LabelSpace(
    (
        Task("section", ("business", "science", "sports"), LabelRule("section")),
        Task("mood", ("calm", "loud"), LabelRule("mood")),
    )
)


def tiny_articles(count: int, seed: int = 0, *, answered: float = 0.8) -> list[Article]:
    """Articles whose words tell the section; a "!" makes them loud. Some tasks are unanswered."""
    random = np.random.default_rng(seed)
    articles = []
    for number in range(count):
        section = str(random.choice(list(WORDS)))
        mood = str(random.choice(["calm", "loud"]))

        def sentence(length: int, section: str = section) -> str:
            own = random.choice(WORDS[section].split(), length)
            return " ".join(
                np.where(random.random(length) < 0.4, own, random.choice(COMMON.split(), length))
            )

        labels = {"section": section, "mood": mood}
        articles.append(
            Article(
                headline=sentence(int(random.integers(4, 9))) + (" !" if mood == "loud" else ""),
                body=sentence(int(random.integers(0, 25))),
                id=f"tiny-{seed}-{number}",
                publisher="The Tiny Times",
                published="2024-01-01",
                labels={
                    task: label for task, label in labels.items() if random.random() < answered
                },
            )
        )
    return articles


def tiny_tokenizer() -> Tokenizer:
    """WordPiece over the words of the tiny articles, single letters and some punctuation."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"!?.,-'", *letters, *(f"##{x}" for x in letters)]
    words += sorted({*COMMON.split(), *" ".join(WORDS.values()).split()} - {"a"})
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


PANICS = "z" * 40 + "b"
"""A text on which the tokenizer of `panicking_tokenizer` panics."""


def panicking_tokenizer(part: str = "pre-tokenizer") -> Tokenizer:
    """The tiny tokenizer with a regular expression, in its pre-tokenizer or its normalizer, that takes
    exponential time on some texts; the tokenizer panics then."""
    tokenizer, endless = tiny_tokenizer(), Regex("(?:z|z)*$")
    if part == "pre-tokenizer":
        tokenizer.pre_tokenizer = PreTokenizers([Split(endless, "isolated"), BertPreTokenizer()])
    else:
        tokenizer.normalizer = Replace(endless, "x")
    return tokenizer


def write_panicking_bundle(tiny_bundle: Path, target: Path) -> Path:
    """The tiny bundle with the tokenizer of `panicking_tokenizer`."""
    tiny = read_bundle(tiny_bundle)
    return write_bundle(
        target,
        name=target.name,
        label_space=tiny.manifest.label_space,
        encoding=tiny.manifest.encoding,
        calibration=tiny.manifest.calibration,
        model=tiny.model_path,
        tokenizer=panicking_tokenizer().to_str(),
        card="",
    ).path


def tiny_encoder(
    model_type: str = "bert", layers: int = 2, dropout: float = 0.0
) -> PreTrainedModel:
    """A randomly initialised encoder of the tiny tokenizer's vocabulary: "bert", "distilbert" or
    "modernbert"."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        DistilBertConfig,
        DistilBertModel,
        ModernBertConfig,
        ModernBertModel,
    )

    # The usual initial range, 0.02, is for wide encoders; one of 32 would learn too slowly for a test.
    both: dict[str, Any] = {
        "vocab_size": tiny_tokenizer().get_vocab_size(),
        "initializer_range": 0.2,
    }
    both |= {"max_position_embeddings": 64}
    wide: dict[str, Any] = {
        "num_hidden_layers": layers,
        "hidden_size": 32,
        "num_attention_heads": 2,
    }
    wide |= {"intermediate_size": 64}
    torch.manual_seed(0)
    if model_type == "bert":
        rates: dict[str, Any] = {
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
        return BertModel(BertConfig(**both, **wide, **rates), add_pooling_layer=False)
    if model_type == "modernbert":
        tokens: dict[str, Any] = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
        tokens |= {"bos_token_id": 2, "eos_token_id": 3}
        return ModernBertModel(ModernBertConfig(**both, **wide, **tokens))
    narrow: dict[str, Any] = {"n_layers": layers, "dim": 32, "n_heads": 2, "hidden_dim": 64}
    narrow |= {"dropout": dropout, "attention_dropout": dropout}
    return DistilBertModel(DistilBertConfig(**both, **narrow))


def write_tiny_encoder(directory: Path, model_type: str = "bert", layers: int = 2) -> Path:
    """A tiny encoder with its tokenizer, as transformers keeps them on disk."""
    tiny_encoder(model_type, layers).save_pretrained(directory)
    tiny_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def write_tiny_corpus(path: Path, count: int, seed: int = 0) -> Path:
    """Tiny articles as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for article in tiny_articles(count, seed):
            row = {"id": article.id, "headline": article.headline, "body": article.body}
            file.write(json.dumps(row | dict(article.labels)) + "\n")
    return path
