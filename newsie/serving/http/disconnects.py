"""Cancellation of requests whose client has disconnected."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Leaving"]


class Leaving:
    """Middleware that cancels the work on a request when its client closes the connection.

    Args:
        app: the wrapped app, which receives the body in one message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = [await receive()]
        task, left, answered = asyncio.current_task(), asyncio.Event(), False
        assert task is not None

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not answered:
                left.set()
                task.cancel()

        async def replay() -> Message:
            if body:
                return body.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        watcher = asyncio.create_task(watch())
        try:
            await self.app(scope, replay, answer)
        except asyncio.CancelledError:
            if not left.is_set():
                raise
            task.uncancel()
        finally:
            watcher.cancel()
