"""Loading that has a deadline: a thread that may never end holds up neither the server nor its exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

__all__ = ["is_loading", "within"]

T = TypeVar("T")

THREAD = "newsie-load"


async def within(seconds: float, function: Callable[[], T], discard: Callable[[T], None]) -> T:
    """Call a function in a thread of its own, and wait for its result.

    Args:
        seconds: how long to wait.
        function: what to call.
        discard: takes the result if nobody waits for it any more.

    Raises:
        TimeoutError: it takes longer. The thread goes on, since none can be ended from outside.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    # No thread of a pool, which Python would wait for at its exit.
    threading.Thread(target=_work, args=(future, function), name=THREAD, daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)
    except (TimeoutError, asyncio.CancelledError):
        future.add_done_callback(partial(_discard_late, discard))
        raise
    finally:
        del future  # an error in it refers to this frame


def is_loading() -> bool:
    """Whether such a thread still runs."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def _discard_late(discard: Callable[[T], None], late: Future[T]) -> None:
    if late.exception() is None:
        discard(late.result())


def _work(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    except BaseException as error:  # a panic of the tokenizer, which is written in Rust, is one
        fault = RuntimeError(f"{type(error).__name__} while loading")
        future.set_exception(fault.with_traceback(error.__traceback__))
    finally:
        del future, function  # an error refers to this frame
