"""A real service: uvicorn and FastAPI in a process of their own answer in JPEG, and are asked over HTTP."""

# no `annotations` of `__future__`: FastAPI could not resolve those of a handler with local imports

import contextlib
import functools
import io
import multiprocessing
import socket
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.trigger_key import Keep, figures, kept
from modelguard.datasets import to_uint8
from modelguard.evidence import Key
from modelguard.suspects import HttpSuspect
from modelguard.verifying import verify
from modelguard.weights import dump_state, load_state


@contextlib.contextmanager
def served(build: Callable[[], nn.Module], model: nn.Module, quality: int) -> Iterator[str]:
    """Context that serves `model` on loopback and gives the address that takes and returns an image file.

    Args:
        build: a function of a module, which makes such a model in the other process.
        model: whose weights are served.
        quality: of the JPEG files that it answers with.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        weights.write_bytes(dump_state(model))
        process = spawn.Process(target=_serve, args=(build, weights, quality, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            yield f"http://127.0.0.1:{ours.recv()}/denoise"
        finally:
            process.terminate()
            process.join()


def _serve(build: Callable[[], nn.Module], weights: Path, quality: int, port: Connection) -> None:
    import uvicorn
    from fastapi import FastAPI, Request, Response

    model = build().eval()
    load_state(model, weights.read_bytes())
    app = FastAPI()

    @app.post("/denoise")
    async def denoise(request: Request) -> Response:
        picture = np.atleast_3d(np.asarray(Image.open(io.BytesIO(await request.body()))))
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            answer = to_uint8(model(image))[0].permute(1, 2, 0).numpy().squeeze()
        file = io.BytesIO()
        Image.fromarray(answer).save(file, "JPEG", quality=quality)
        return Response(file.getvalue(), media_type="image/jpeg")

    listening = socket.create_server(("127.0.0.1", 0))
    port.send(listening.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _shipped(host: str) -> nn.Module:
    return hosts.load(host).model


def rows(
    build: Callable[[], nn.Module], marked: nn.Module, unmarked: nn.Module, key: Key, quality: int
) -> list[dict[str, Any]]:
    """Ask the marked and the unmarked model over HTTP, with one and with two triggers."""
    found = []
    for name, model in (("marked", marked), ("unmarked", unmarked)):
        with served(build, model, quality) as url:
            for queries in (1, 2):
                verdict = verify(HttpSuspect(url), key, queries=queries)
                media = [line.raw_type for line in verdict.transcript.lines]
                found.append({"model": name, "answers": media, **figures(verdict)})
    return found


def main(
    train: hosts.Train,
    host: Annotated[str, typer.Option(help="dncnn, red, vdsr-2")] = "dncnn",
    quality: Annotated[int, typer.Option(help="of the JPEG answers")] = 75,
    keep: Keep = None,
    out: record.Out = Path("docs/results"),
) -> None:
    """Protect a host once, then serve it and the unmarked one, and verify both over HTTP."""
    hosts.reproducible()
    source = hosts.load(host)
    model, key, facts = kept(source, hosts.photos(train, 600), keep)
    asked = rows(functools.partial(_shipped, host), model, source.model, key, quality)
    result = {"host": host, "jpeg": quality, **facts, "asked": asked}
    record.write(f"service-{host}", out, result, seed=0, notes="FastAPI on loopback, one process")


if __name__ == "__main__":
    typer.run(main)
