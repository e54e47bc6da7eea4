"""The server that most people would write first: a route that classifies, a request at a time.

NEWSIE_MODEL=BUNDLE uvicorn serving.load.one_by_one:app
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from newsie import Article, Classifier

app = FastAPI()
classifier = Classifier.from_pretrained(os.environ.get("NEWSIE_MODEL") or None)


class ArticleIn(BaseModel):
    headline: str = ""
    body: str = ""


class Request(BaseModel):
    articles: list[ArticleIn]
    top_k: int | None = None


@app.post("/v1/classify")
def classify(request: Request) -> dict[str, Any]:
    articles = [Article(article.headline, article.body) for article in request.articles]
    predictions = classifier.classify(articles)
    return {"predictions": [prediction.to_json(request.top_k) for prediction in predictions]}
