from __future__ import annotations

import numpy as np

from newsie import Article, Classifier
from newsie.serving.cache import AnswerCache, Cached
from tests.serving.live import live, wait_until


def test_the_one_not_used_for_longest_goes() -> None:
    cache = AnswerCache(2)
    a, b, c = (cache.key(Article(name)) for name in "abc")
    answer = Cached({"section": np.zeros((2, 3))}, False, 3)
    cache.put(a, answer)
    cache.put(b, answer)
    assert cache.get(a) is not None
    cache.put(c, answer)
    assert [cache.get(key) is not None for key in (a, b, c)] == [True, False, True]


def test_an_answer_is_kept_without_its_batch() -> None:
    cache, batch = AnswerCache(1), np.arange(24.0).reshape(4, 2, 3)
    key = cache.key(Article("a"))
    cache.put(key, Cached({"section": batch[1]}, True, 3))
    found = cache.get(key)
    assert found is not None
    assert (found.truncated, found.tokens) == (True, 3)
    np.testing.assert_array_equal(found.row["section"], batch[1])
    assert found.row["section"].base is None


def test_keys_tell_headline_and_body_apart() -> None:
    cache = AnswerCache(1)
    articles = [
        Article("a", "b"),
        Article("ab"),
        Article("", "ab"),
        Article("a\x00b"),
        Article("\ud800"),
    ]
    assert len({cache.key(article) for article in articles}) == 5
    assert cache.key(articles[0]) == cache.key(Article("a", "b", id="other"))
    assert cache.key(articles[0]) != AnswerCache(1).key(articles[0])


def test_what_comes_again_is_not_computed_again(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, cache_articles=10) as server, server.client() as client:

        def computed() -> float:
            return server.samples("newsie_batch_size_sum")[""]

        body = {"articles": [{"headline": "goal"}, {"headline": "goal"}, {"headline": "cup"}]}
        first = client.post("/v1/classify", json=body | {"tasks": ["mood"]}).json()
        wait_until(lambda: computed() == 2)  # a batch is counted after it is answered
        second = client.post("/v1/classify", json=body).json()
        assert computed() == 2
        assert [p["mood"] for p in first["predictions"]] == [
            p["mood"] for p in second["predictions"]
        ]
        wanted = tiny_classifier.classify(["goal", "goal", "cup"])
        for found, prediction in zip(second["predictions"], wanted, strict=True):
            assert found["section"][0]["label"] == prediction.label("section")
