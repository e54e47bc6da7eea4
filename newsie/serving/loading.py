"""Loading with a deadline. A thread that never ends blocks neither the server nor its exit."""

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
    """Call a function in a new thread and wait for its result.

    Args:
        seconds: maximum time to wait.
        function: function to call.
        discard: called with the result if it comes too late.

    Raises:
        TimeoutError: the function takes longer. Its thread continues, as it cannot be ended from outside.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    # Not a thread of a pool, as Python would wait for it at exit.
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
    """Return True if a loading thread is still running."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def _discard_late(discard: Callable[[T], None], late: Future[T]) -> None:
    if late.exception() is None:
        discard(late.result())


def _work(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    except BaseException as error:  # such as a panic of the tokenizer, which is written in Rust
        fault = RuntimeError(f"{type(error).__name__} while loading")
        future.set_exception(fault.with_traceback(error.__traceback__))
    finally:
        del future, function  # an error refers to this frame
