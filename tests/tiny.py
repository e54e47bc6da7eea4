"""Tiny real objects: articles that can be learnt, a tokenizer for their words, an encoder of 2 layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from newsie.data.articles import Article
from newsie.labels import LabelRule, LabelSpace, Task

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


def write_tiny_encoder(directory: Path, model_type: str = "bert", layers: int = 2) -> Path:
    """A randomly initialised encoder with its tokenizer, as transformers keeps them on disk."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        DistilBertConfig,
        DistilBertModel,
        ModernBertConfig,
        ModernBertModel,
    )

    tokenizer = tiny_tokenizer()
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    wide = {"vocab_size": size, "num_hidden_layers": layers, "hidden_size": 32}
    # The usual 0.02 is for wide encoders; one of 32 would learn too slowly for a test.
    wide |= {"num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    wide |= {"initializer_range": 0.2}
    if model_type == "bert":
        model = BertModel(BertConfig(**wide), add_pooling_layer=False)
    elif model_type == "modernbert":
        special = {
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        }
        model = ModernBertModel(ModernBertConfig(**wide, **special))
    else:
        narrow = {"vocab_size": size, "n_layers": layers, "dim": 32, "n_heads": 2}
        narrow |= {"hidden_dim": 64, "initializer_range": 0.2}
        model = DistilBertModel(DistilBertConfig(**narrow, max_position_embeddings=64))
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def write_tiny_corpus(path: Path, count: int, seed: int = 0) -> Path:
    """Tiny articles as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for article in tiny_articles(count, seed):
            row = {"id": article.id, "headline": article.headline, "body": article.body}
            file.write(json.dumps(row | dict(article.labels)) + "\n")
    return path
