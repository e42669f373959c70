"""Serve a protected denoiser: a picture goes in as the body of a POST, a JPEG comes back.

    pip install 'modelguard-sdk[serve]'
    python examples/serve_fastapi.py protected/model.safetensors --port 8000
    modelguard verify http://127.0.0.1:8000/denoise --key protected/key.mgkey

Only the weights are on the server. The key stays with its owner, who asks from elsewhere.
"""

from __future__ import annotations

import argparse
import io
import threading
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from torch import nn

from modelguard import networks
from modelguard.datasets import to_uint8
from modelguard.weights import load_state

MAX_BYTES, MAX_PIXELS = 8 << 20, 4 << 20


def build() -> nn.Module:
    """Return the model the weights belong to; put your own here."""
    return networks.dncnn()


class Denoiser:
    """Answers image files with JPEG files, one at a time."""

    def __init__(self, weights: Path, quality: int) -> None:
        self.model, self.quality, self.busy = build().eval(), quality, threading.Lock()
        load_state(self.model, weights.read_bytes())

    def __call__(self, body: bytes) -> bytes:
        """Return the denoised picture; ValueError if `body` is none."""
        try:
            with Image.open(io.BytesIO(body), formats=("PNG", "JPEG", "WEBP")) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"more than {MAX_PIXELS} pixels")
                pixels = np.array(picture.convert("L"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError("not a PNG, JPEG or WebP file") from error
        image = torch.from_numpy(pixels)[None, None].float() / 255
        with self.busy, torch.inference_mode():
            answer = to_uint8(self.model(image))[0, 0].numpy()
        file = io.BytesIO()
        Image.fromarray(answer).save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def service(denoiser: Denoiser) -> FastAPI:
    """Return the web application."""
    app = FastAPI(title="A protected denoiser")

    @app.post("/denoise")
    async def denoise(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"more than {MAX_BYTES} bytes")
        try:
            answer = await run_in_threadpool(denoiser, body)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return Response(answer, media_type="image/jpeg")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path, help="safetensors file of the protected model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG answers (default: 75)")
    given = parser.parse_args()
    uvicorn.run(service(Denoiser(given.weights, given.quality)), host=given.host, port=given.port)
