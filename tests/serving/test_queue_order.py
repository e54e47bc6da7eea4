"""Batches that the fair queue gives, by hand."""

from __future__ import annotations

from newsie.serving.queueing import FairQueue, Limits


def queue(*, threads: int = 1, max_batch_tokens: int = 100) -> FairQueue[str]:
    return FairQueue(Limits(threads, max_batch_tokens, max_articles=100, max_tokens=10_000))


def join(queue: FairQueue[str], owner: str, *lengths: int) -> None:
    ticket = queue.admit(len(lengths), sum(lengths))
    queue.put(ticket, [[1] * length for length in lengths], owner)


def test_the_lowest_tag_comes_first_whatever_came_first() -> None:
    waiting = queue(max_batch_tokens=10)
    join(waiting, "large", *[10] * 5)  # tags 0, 10, 20, 30, 40
    join(waiting, "small", 50)  # tag 0
    assert [waiting.take()[0].owner for _ in range(3)] == ["large", "small", "large"]


def test_several_threads_share_what_waits() -> None:
    for threads, expected in ((1, 8), (2, 4), (4, 2)):
        waiting = queue(threads=threads)
        join(waiting, "all", *[10] * 8)
        assert len(waiting.take()) == expected


def test_texts_of_a_batch_are_of_like_length() -> None:
    waiting = queue()
    join(waiting, "all", 10, 20, 10, 20)
    assert [[len(text.ids) for text in waiting.take()] for _ in range(2)] == [[10, 10], [20, 20]]
