"""Large answers are built in slices, between which the event loop does other work."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from newsie.serving.slices import FEW_ITEMS, SLICE_SECONDS, Slices

ITEM_SECONDS = 0.001


def work(item: int) -> int:
    end = time.perf_counter() + ITEM_SECONDS
    while time.perf_counter() < end:
        pass
    return 2 * item


def test_results_keep_their_order() -> None:
    assert asyncio.run(Slices().map(work, range(20))) == [2 * item for item in range(20)]
    assert asyncio.run(Slices().map(work, [])) == []


def test_the_loop_turns_between_the_slices_of_many_large_answers() -> None:
    """However many large answers are built, each turn holds one slice, not one of each."""
    turns = 0

    async def main() -> None:
        slices = Slices()

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.gather(*(slices.map(work, range(50)) for _ in range(4)))
        counting.cancel()

    asyncio.run(main())
    items_a_slice = SLICE_SECONDS / ITEM_SECONDS
    assert turns >= 4 * 50 / items_a_slice - 4 - 1  # the first slices of all four share a turn


@pytest.mark.parametrize(("items", "turns"), [(FEW_ITEMS, 0), (FEW_ITEMS + 1, 3)])
def test_steps_of_a_large_request_have_a_turn_each(items: int, turns: int) -> None:
    """Otherwise the slices of reading, computing and answering would add up in one turn."""

    async def main() -> int:
        slices, counted = Slices(), 0

        def count() -> None:
            nonlocal counted
            counted += 1
            asyncio.get_running_loop().call_soon(count)

        asyncio.get_running_loop().call_soon(count)
        for _ in range(3):
            await slices.map(str, range(items))
        return counted

    assert asyncio.run(main()) == turns


def test_a_small_answer_does_not_wait_for_large_ones() -> None:
    async def main() -> list[str]:
        slices, order = Slices(), []

        async def build(name: str, items: int) -> None:
            await slices.map(work, range(items))
            order.append(name)

        large = [asyncio.create_task(build("large", 100)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await build("small", 1)
        await asyncio.gather(*large)
        return order

    assert asyncio.run(main())[0] == "small"


def test_an_error_of_one_answer_lets_the_others_go_on() -> None:
    async def main() -> list[Any]:
        slices = Slices()
        failing = slices.map(lambda item: work(item) // (item - 20), range(50))
        both = asyncio.gather(failing, slices.map(work, range(50)), return_exceptions=True)
        return list(await both)

    failed, built = asyncio.run(main())
    assert isinstance(failed, ZeroDivisionError)
    assert built == [2 * item for item in range(50)]
