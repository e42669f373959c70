"""Three uses of RIIS, with pictures: locate an edit, photograph a hidden QR code, carry colours in grey.

    python examples/hidden_pictures.py --codec weights/riis-mine.safetensors --out pictures/

Wants `pip install 'modelguard-sdk[qr]'`; weights come from `python -m modelguard.benchmarks.train_riis`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageOps
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

import modelguard as mg
from modelguard import photos
from modelguard.cli.sheet import draw_sheet
from modelguard.codecs.qr import qr_code, read_qr
from modelguard.distortions import PrintAndPhoto, straightened


def edit(codec: mg.RIIS, host: Image.Image, secret: Image.Image, out: Path) -> float:
    """Paste something into a container, find where by the known secret, and return the share marked."""
    container = codec.hide(host, secret)
    changed = container.copy()
    box = (host.width // 2, host.height // 2)
    changed.paste(ImageOps.mirror(host).crop((0, 0, host.width // 3, host.height // 3)), box)
    found = codec.locate(changed, secret)
    tiles = [("container", "", container), ("edited", "", changed)]
    tiles.append(("located", f"{found.share:.0%}", Image.fromarray(found.mask)))
    draw_sheet(out / "edit.png", tiles, overwrite=True)
    return found.share


def photograph(codec: mg.RIIS, host: Image.Image, text: str, out: Path) -> str | None:
    """Hide a QR code, print and photograph the container, and return what is read from it."""
    code = qr_code(text, min(host.size))
    container = codec.hide(host, code)
    photo, corners = PrintAndPhoto().photo(pil_to_tensor(container)[None] / 255)
    straight = straightened(photo, corners, (host.height, host.width))  # a real photo: read them off it
    revealed = codec.reveal(to_pil_image(straight[0])).secrets[0]
    read = read_qr(revealed)
    tiles = [("secret", text, code), ("container", "", container), ("photo", "", to_pil_image(photo[0]))]
    tiles.append(("revealed", f"read: {read}", revealed))
    draw_sheet(out / "photo.png", tiles, overwrite=True)
    return read


def decolour(codec: mg.RIIS, picture: Image.Image, out: Path) -> Image.Image:
    """Make a picture look grey, and return it with its colours back."""
    grey = codec.decolour(picture)
    colours = codec.recolour(grey)
    tiles = [("picture", "", picture), ("container", "", grey), ("colours back", "", colours)]
    draw_sheet(out / "colours.png", tiles, overwrite=True)
    return colours


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and draw three sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", required=True, help="name of RIIS weights that ship, or a file")
    parser.add_argument("--host", type=Path, default=photos.FOLDER / "coffee.jpg")
    parser.add_argument("--secret", type=Path, default=photos.FOLDER / "cat.jpg")
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    codec = mg.RIIS.from_pretrained(given.codec)
    host, secret = (Image.open(path).convert("RGB") for path in (given.host, given.secret))
    print(f"{edit(codec, host, secret, given.out):.0%} is marked as edited")
    print(f"the QR code says {photograph(codec, host, 'MODELGUARD', given.out)}")
    decolour(codec, host, given.out)


if __name__ == "__main__":
    main()
