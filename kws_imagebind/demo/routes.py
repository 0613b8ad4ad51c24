"""Where the page sends what its microphone hears. It needs FastAPI, which comes with Gradio.

Gradio's own streaming microphone is not used: where an answer takes longer than the time between two blocks, it drops
blocks without a word, and a word that lies in one is missed. `templates/live.js` sends the next block when the last
one is answered, with all that was heard in the meantime.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import APIRouter, FastAPI, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from kws_imagebind.demo import DemoError
from kws_imagebind.demo.answers import MAX_LETTERS
from kws_imagebind.demo.live import LONGEST, RATES, Live

PLACE = "/live"
MOST_BYTES = round(2 * (LONGEST + 1) * RATES[1])  # of a block
MOST_FORM = 8 * MAX_LETTERS + 10_000  # bytes of what comes with it: the words, numbers and headers
VISITOR = re.compile(r"[0-9a-f]{32}")

Visitor = Annotated[str, Query(pattern=rf"^{VISITOR.pattern}$")]


class GuardedRoute(APIRoute):
    """Refuses what is too large, or comes from another site's page, before it is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            _check_origin(request)
            _check_size(request)
            try:
                return await answer(request)
            except DemoError as error:
                raise HTTPException(503, f"{error}") from error

        return guarded


def _check_origin(request: Request) -> None:
    """A browser names the page that sends. Behind a proxy, its address is what the proxy was asked for."""
    origin = request.headers.get("origin")
    if origin is None:
        return
    own = {request.headers.get(name, "").casefold() for name in ("host", "x-forwarded-host")} - {""}
    if urlsplit(origin).netloc.casefold() not in own:
        raise HTTPException(403, f"expected a request from the demo's own page, not from {origin}")


def _check_size(request: Request) -> None:
    """The length must be known: a form without one would be stored whole before it could be measured."""
    most = MOST_BYTES + MOST_FORM
    length = request.headers.get("content-length", "")
    known = re.fullmatch("[0-9]{1,12}", length) and "transfer-encoding" not in request.headers
    if not known or int(length) > most:
        raise HTTPException(413, f"expected a block with its length, at most {most:,} bytes")


def add_routes(app: FastAPI, live: Live) -> None:
    """Lets a page's visitors listen."""
    router = APIRouter(route_class=GuardedRoute)

    def start(visitor: Visitor) -> None:
        live.start(visitor)

    def hear(
        visitor: Visitor,
        sound: UploadFile,
        rate: Annotated[int, Form(ge=RATES[0], le=RATES[1])],
        words: Annotated[str, Form(max_length=2 * MAX_LETTERS)] = "",
        threshold: Annotated[float, Form(ge=0, le=1)] = 0.5,
        lost: Annotated[float, Form(ge=0, le=1e9)] = 0.0,
    ) -> HTMLResponse:
        data = sound.file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES or len(data) % 2:
            raise HTTPException(422, f"expected 16-bit samples, at most {MOST_BYTES:,} bytes")
        samples = np.frombuffer(data, "<i2").astype(np.int16)
        return HTMLResponse(live.hear(visitor, samples, rate, words, threshold, lost))

    def stop(visitor: Visitor) -> HTMLResponse:
        return HTMLResponse(live.stop(visitor))

    def forget(visitor: Visitor) -> None:
        live.forget(visitor)

    for answer in (start, hear, stop, forget):
        router.add_api_route(f"{PLACE}/{answer.__name__}", answer, methods=["POST"], response_model=None)
    app.include_router(router)
