"""The server that most people would write first: a route that runs the model, a request at a time.

FastAPI, tokenizers and onnxruntime with their defaults, and the same student; nothing of Newsie's
runtime, batching or server.

NEWSIE_MODEL=BUNDLE uvicorn serving.load.one_by_one:app
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

from newsie.bundles.bundle import read_bundle
from newsie.bundles.hub import find_bundle
from newsie.inference.student import import_onnxruntime
from newsie.metrics.evaluation import softmax

app = FastAPI()
bundle = read_bundle(find_bundle(os.environ.get("NEWSIE_MODEL")))
tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
tokenizer.enable_truncation(bundle.manifest.encoding.max_tokens)
session = import_onnxruntime().InferenceSession(str(bundle.model_path))


class ArticleIn(BaseModel):
    headline: str = ""
    body: str = ""


class Request(BaseModel):
    articles: list[ArticleIn]
    top_k: int | None = None


@app.post("/v1/classify")
def classify(request: Request) -> dict[str, Any]:
    return {"predictions": [answer(article, request.top_k) for article in request.articles]}


def answer(article: ArticleIn, top_k: int | None) -> dict[str, list[dict[str, Any]]]:
    encoding = tokenizer.encode(f"{article.headline}\n{article.body}")
    inputs = {"input_ids": [encoding.ids], "attention_mask": [encoding.attention_mask]}
    logits = session.run(None, {name: np.array(ids, np.int64) for name, ids in inputs.items()})
    found = {}
    for task, rows in zip(bundle.manifest.label_space.tasks, logits, strict=True):
        scores = softmax(rows / bundle.manifest.calibration[task.name])[0]
        best = np.argsort(-scores)[:top_k]
        found[task.name] = [{"label": task.labels[i], "score": float(scores[i])} for i in best]
    return found
