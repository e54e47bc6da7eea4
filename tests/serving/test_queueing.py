"""The fair queue by itself: admission, order and accounting, without threads and without a clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from newsie.serving.queueing import FairQueue, Limits, OverloadedError, Ticket, TooMuchError

SPEED = 1_000  # tokens a second


def queue(**changes: Any) -> FairQueue[str]:
    """A queue of one thread that computes 1,000 tokens a second, in batches of up to 100."""
    limits = {"threads": 1, "max_batch_tokens": 100, "max_articles": 10_000, "max_tokens": 100_000}
    made: FairQueue[str] = FairQueue(Limits(**(limits | changes)))
    made.measure(100, 100 / SPEED)
    return made


def add(waiting: FairQueue[str], owner: str, articles: int, length: int = 10) -> Ticket:
    ticket = waiting.admit(articles, articles * length)
    waiting.put(ticket, [[1] * length] * articles, owner)
    return ticket


def fill(waiting: FairQueue[str], articles: int) -> tuple[int, OverloadedError]:
    """Add requests of this size until one is refused: how many were admitted, and the refusal."""
    for number in range(1_000):
        try:
            add(waiting, "one", articles)
        except OverloadedError as error:
            return number, error
    raise AssertionError("nothing was refused")


def drain(waiting: FairQueue[str]) -> list[str]:
    """The owners of all texts, in the order in which they are taken."""
    owners = []
    while batch := waiting.take():
        owners += [text.owner for text in batch]
    return owners


def test_a_small_request_is_admitted_beside_a_large_one() -> None:
    """7 s of work wait; a small request is computed within a batch or two, so it is not refused."""
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    add(waiting, "large", 700)
    add(waiting, "small", 1)
    assert drain(waiting).index("small") <= 20
    assert waiting.articles == waiting.tokens == 0


def test_a_request_that_would_be_late_is_refused() -> None:
    """After 4 s of equal work, one more second is fine; after 6 s it is not."""
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    for number in range(4):
        add(waiting, str(number), 100)
    add(waiting, "in time", 100)
    add(waiting, "the last", 100)
    with pytest.raises(OverloadedError) as caught:
        add(waiting, "late", 100)
    assert caught.value.wait_seconds == pytest.approx(1, abs=0.1)
    waiting.take()


def test_small_requests_are_refused_where_they_would_be_late_themselves() -> None:
    waiting = queue(max_wait_seconds=1, deadline_seconds=2)
    assert 100 <= fill(waiting, 1)[0] <= 120


def test_own_work_and_the_work_before_it_must_fit_into_the_deadline() -> None:
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    add(waiting, "first", 400)
    with pytest.raises(OverloadedError):
        add(waiting, "4 s of waiting and 7 s of work", 700)
    add(waiting, "4 s and 5.9 s", 590)


def test_a_request_that_can_never_be_in_time_is_refused_at_once() -> None:
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    for others in (0, 1):  # beside others too, and not as one that may come again later
        ticket = waiting.admit(2_000, 20_000)
        with pytest.raises(TooMuchError) as caught:
            waiting.put(ticket, [[1] * 10] * 2_000, "large")
        waiting.leave(ticket)
        assert caught.value.seconds == pytest.approx(20)
        assert caught.value.share == pytest.approx(0.5)
        assert waiting.articles == others
        add(waiting, "other", 1)


def test_a_high_estimate_alone_refuses_nothing() -> None:
    """Markup counts as characters and gives no tokens."""
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    add(waiting, "first", 450)
    fits = waiting.admit(1, 20_000)
    waiting.put(fits, [[1] * 10], "fits")
    late = waiting.admit(900, 20_000)
    with pytest.raises(OverloadedError):
        waiting.put(late, [[1] * 10] * 900, "late")
    waiting.leave(late)
    assert waiting.tokens == 4_510
    assert drain(waiting).index("fits") <= 20


def test_a_slow_moment_does_not_close_the_queue_to_large_requests() -> None:
    """A batch that took a minute, as on a machine that slept, is no measure of what can be done."""
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    waiting.measure(100, 60)
    add(waiting, "large", 500)
    assert len(drain(waiting)) == 500


def test_small_batches_say_nothing_about_the_best_speed() -> None:
    waiting: FairQueue[str] = FairQueue(Limits(1, 100, 1_000, 100_000, 5, 10))
    waiting.measure(10, 1)
    add(waiting, "large", 500)  # 500 s at this speed, which full batches may well exceed
    assert len(drain(waiting)) == 500


def test_threads_share_the_work() -> None:
    """Two threads compute 12 s of work in 6 s."""
    waiting = queue(threads=2, max_wait_seconds=5, deadline_seconds=10)
    add(waiting, "large", 1_200)
    assert waiting.seconds_for(waiting.tokens) == pytest.approx(6)
    with pytest.raises(TooMuchError):
        add(queue(threads=1, max_wait_seconds=5, deadline_seconds=10), "large", 1_200)


def test_large_requests_cannot_fill_the_queue() -> None:
    """Each may take half of the free space, so that there is always room for a small one."""
    waiting = queue(max_articles=1_000, max_tokens=10_000)
    admitted, refusal = fill(waiting, 250)
    assert admitted == 3  # of the four that would fill it
    assert refusal.wait_seconds == pytest.approx(2.5)  # until another 250 articles are taken
    for _ in range(100):
        add(waiting, "small", 1)


@pytest.mark.parametrize("limit", ["articles", "tokens"])
def test_each_limit_bounds_the_queue(limit: str) -> None:
    waiting = queue(**{f"max_{limit}": 100 if limit == "articles" else 1_000})
    assert 90 <= fill(waiting, 1)[0] <= 100


def test_each_kind_of_space_is_shared() -> None:
    """Half of what is free, also where only articles are short, or only tokens."""
    assert fill(queue(max_articles=1_000), 250)[0] == 3
    assert fill(queue(max_tokens=10_000), 250)[0] == 3


def test_the_clock_lets_nothing_wait_forever() -> None:
    """Small requests come as fast as batches are taken; the large one is done all the same."""
    waiting = queue()
    large = add(waiting, "large", 20)
    for _ in range(100):
        for _ in range(10):
            add(waiting, "small", 1)
        waiting.take()
    assert large.articles == 0


def test_a_request_that_may_be_too_large_holds_no_tokens_before_they_are_known() -> None:
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    ticket = waiting.admit(1, 20_000)
    assert (waiting.articles, waiting.tokens) == (1, 0)
    waiting.leave(ticket)
    assert (waiting.articles, waiting.tokens) == (0, 0)


def test_an_estimate_gives_way_to_the_exact_number() -> None:
    waiting = queue()
    ticket = waiting.admit(3, 500)
    assert (waiting.articles, waiting.tokens) == (3, 500)
    waiting.put(ticket, [[1] * 10, [1] * 20, [1] * 30], "one")
    assert (waiting.articles, waiting.tokens) == (3, 60)
    assert len(drain(waiting)) == 3
    assert (waiting.articles, waiting.tokens) == (0, 0)


def test_a_request_that_is_being_tokenised_keeps_its_turn() -> None:
    waiting = queue()
    early = waiting.admit(1, 10)
    add(waiting, "late", 30)
    waiting.take()
    waiting.put(early, [[1] * 10], "early")
    assert waiting.take()[0].owner == "early"


def test_a_place_that_is_given_up_frees_its_space_and_is_not_computed() -> None:
    waiting = queue(max_wait_seconds=5, deadline_seconds=10)
    gone = add(waiting, "gone", 450)
    add(waiting, "stays", 30)
    waiting.take()  # a part of it is under way
    waiting.leave(gone)
    waiting.leave(gone)  # twice changes nothing
    assert waiting.tokens == 10 * waiting.articles
    assert waiting.articles == drain(waiting).count("stays") > 0
    assert waiting.articles == waiting.tokens == 0
    add(waiting, "next", 500)  # nothing of what is gone counts as work


def test_the_counts_are_exact_whatever_happens() -> None:
    """Thousands of random steps; the counts always are those of the texts that will be taken."""
    draw = random.Random(0)
    waiting = queue(max_articles=10**9, max_tokens=10**9)
    open_tickets: dict[Ticket, list[int]] = {}  # lengths that still wait
    for _ in range(3_000):
        step = draw.random()
        if step < 0.4:
            lengths = [draw.randint(1, 60) for _ in range(draw.randint(1, 8))]
            ticket = waiting.admit(len(lengths), draw.randint(1, 300))
            waiting.put(ticket, [[1] * length for length in lengths], "one")
            open_tickets[ticket] = lengths
        elif step < 0.6 and open_tickets:
            waiting.leave(gone := draw.choice([*open_tickets]))
            del open_tickets[gone]
        else:
            for text in waiting.take():
                open_tickets[text.ticket].remove(len(text.ids))  # never of one that is gone
        assert waiting.articles == sum(map(len, open_tickets.values()))
        assert waiting.tokens == sum(map(sum, open_tickets.values()))
    while batch := waiting.take():
        for text in batch:
            open_tickets[text.ticket].remove(len(text.ids))
    assert not any(open_tickets.values())
    assert (waiting.articles, waiting.tokens) == (0, 0)
