"""Where the page sends what its microphone hears. It needs FastAPI, which comes with Gradio.

Gradio's own streaming microphone is not used: where an answer takes longer than the time between two blocks, it drops
blocks without a word, and a word that lies in one is missed. `templates/live.js` sends the next block when the last
one is answered, with all that was heard in the meantime.
"""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Form, HTTPException, Query, UploadFile
from fastapi.responses import HTMLResponse

from kws_imagebind.demo.answers import MAX_LETTERS
from kws_imagebind.demo.live import LONGEST, RATES, Live

PLACE = "/live"
MOST_BYTES = round(2 * (LONGEST + 1) * RATES[1])  # of a block
VISITOR = re.compile(r"[0-9a-f]{32}")

Visitor = Annotated[str, Query(pattern=rf"^{VISITOR.pattern}$")]


def add_routes(app: FastAPI, live: Live) -> None:
    """Lets a page's visitors listen."""

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
        app.add_api_route(f"{PLACE}/{answer.__name__}", answer, methods=["POST"], response_model=None)
