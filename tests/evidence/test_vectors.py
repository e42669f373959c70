"""The golden vectors: as the package computes them, and from docs/format.md with hashlib alone."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "vectors"
_SPEC = importlib.util.spec_from_file_location("vectors_make", FOLDER / "make.py")
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.mark.parametrize("name", make.MADE)
def test_the_package_still_computes_the_vectors(name):
    assert make.content(name) == (FOLDER / f"{name}.json").read_text()


# --- from the specification, without the package ----------------------------------------------------------


def hkdf(master, info, size):
    key = hmac.digest(bytes(32), master, "sha256")
    out = block = b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out += block
    return out[:size]


def shake(label, salt, secret, size):
    prefix = b"modelguard/v1/" + label.encode() + b"\0" + len(salt).to_bytes(2, "big")
    return hashlib.shake_256(prefix + salt + secret).digest(size)


def test_secrets_by_hand():
    vector = load("secrets")
    for leaf in vector["leaves"]:
        info = b"modelguard/v1/leaf-secrets\0" + leaf["leaf"].to_bytes(4, "big")
        assert hkdf(bytes.fromhex(vector["master"]), info, 64).hex() == leaf["xK"] + leaf["xb"]
    for one in vector["streams"]:
        salt, secret = bytes.fromhex(one["salt"]), bytes.fromhex(one["secret"])
        assert shake(one["label"], salt, secret, 40).hex() == one["out"]
    stretched = vector["stretched"]
    message, cost = bytes.fromhex(stretched["precommit"]), 1 << stretched["log2n"]
    salt = hashlib.scrypt(message, salt=b"modelguard/v1/salt\0", n=cost, r=8, p=1, dklen=32)
    assert salt.hex() == stretched["salt"]


def test_merkle_by_hand():
    vector = load("merkle")
    master, hashes = bytes.fromhex(vector["master"]), []
    for index, expected in enumerate(vector["leaves"]):
        number = index.to_bytes(4, "big")
        both = hkdf(master, b"modelguard/v1/leaf-secrets\0" + number, 64)
        halves = sha256(b"K", both[:32]), sha256(b"b", both[32:])
        hashes.append(sha256(b"\0modelguard/v1/leaf\0", number, *halves))
        assert hashes[-1].hex() == expected

    def root(leaves):
        if len(leaves) == 1:
            return leaves[0]
        half = 1
        while half * 2 < len(leaves):
            half *= 2
        return sha256(b"\1", root(leaves[:half]), root(leaves[half:]))

    assert {str(n): root(hashes[:n]).hex() for n in range(1, 10)} == vector["roots"]
    for case in vector["paths"]:
        assert len(case["path"]) <= (case["leaves"] - 1).bit_length()


def test_pae_by_hand():
    vector = load("pae")
    kind = vector["payloadType"].encode()
    for one in vector["vectors"]:
        payload = bytes.fromhex(one["payload"])
        pae = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
        assert pae.hex() == one["pae"]
        assert sha256(pae).hex() == one["recordId"]


def dumps(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_transcript_by_hand():
    vector = load("transcript")
    session = vector["session"]
    parts = sha256(dumps(session["suspect"])), sha256(dumps(session["selection"]))
    head = sha256(b"modelguard/v1/transcript\0", bytes.fromhex(session["registration"]), *parts)
    assert head.hex() == vector["first"]
    for line, expected in zip(vector["lines"], vector["heads"], strict=True):
        head = sha256(b"\2", head, sha256(line.encode()))
        assert head.hex() == expected
    root, nonce = bytes.fromhex(vector["selection"]["root"]), bytes.fromhex(session["selection"]["nonce"])
    drawn = (
        int.from_bytes(sha256(b"modelguard/v1/select\0", root, nonce, n.to_bytes(4, "big")), "big") % 16
        for n in itertools.count()
    )
    left = dict.fromkeys(itertools.islice((n for n in drawn if n not in (3, 5)), 50))
    assert list(left)[:2] == vector["selection"]["selected"]
    array = vector["array"]
    sides = b"".join(side.to_bytes(4, "big") for side in array["shape"])
    assert sha256(b"modelguard/v1/array\0", sides, bytes(array["values"])).hex() == array["digest"]


def test_tails_by_hand():
    vector = load("tail")
    for case in vector["tails"]:
        if len(case["weights"]) <= 16:  # all sign vectors
            sums = [0]
            for weight in case["weights"]:
                sums = [one + sign * weight for one in sums for sign in (-1, 1)]
            assert sum(one >= case["T"] for one in sums) == int(case["tail"], 16)
        else:  # one weight after another
            counts = {0: 1}
            for weight in case["weights"]:
                more: dict[int, int] = {}
                for one, count in counts.items():
                    for sign in (-1, 1):
                        more[one + sign * weight] = more.get(one + sign * weight, 0) + count
                counts = more
            assert sum(count for one, count in counts.items() if one >= case["T"]) == int(case["tail"], 16)
    test = vector["test"]
    largest = max(map(abs, test["scores"]))
    weights = [(2 * test["levels"] * abs(score) + largest) // (2 * largest) for score in test["scores"]]
    agree = [
        bit * ((score > 0) - (score < 0)) for bit, score in zip(test["bits"], test["scores"], strict=True)
    ]
    assert sum(one > 0 for one in agree) == test["matches"]
    assert sum(one * weight for one, weight in zip(agree, weights, strict=True)) == test["T"]
    assert sum(weights) == test["W"]


@pytest.mark.parametrize("vector", load("keyed_cells")["vectors"], ids=["one", "mosaic", "colour", "clip"])
def test_keyed_cells_by_hand(vector):
    scheme, salt = vector["scheme"], bytes.fromhex(vector["salt"])
    channels, scale, size, cell, chip = (scheme[n] for n in ("channels", "scale", "size", "cell", "chip"))
    secrets = [bytes.fromhex(x) for x in vector["xK"]]
    across, inner, side = size // cell, cell // chip, size + 4

    def bits(label, secret, count):
        data = shake(label, salt, secret, count // 8 + 1)
        return [1 if data[n // 8] >> (7 - n % 8) & 1 else -1 for n in range(count)]

    def signed(label, secret, count):
        return [byte - 256 * (byte > 127) for byte in shake(label, salt, secret, count)]

    for secret, expected in zip(vector["xb"], vector["b"], strict=True):
        assert bits("b", bytes.fromhex(secret), across**2) == expected

    frames = scheme.get("frames")
    columns = math.ceil(len(secrets) / frames) if frames else math.ceil(math.sqrt(len(secrets)))
    height, width = (frames or math.ceil(len(secrets) / columns)) * size, columns * size
    query = [[[128] * channels for _ in range(width)] for _ in range(height)]
    for k, secret in enumerate(secrets):
        taps = signed("T", secret, 25)
        taps = [25 * tap - sum(taps) for tap in taps]
        white = signed("K", secret, side * side * channels)
        for y, x, c in itertools.product(range(size), range(size), range(channels)):
            window = (white[((y + i) * side + x + j) * channels + c] for i in range(5) for j in range(5))
            light = sum(map(int.__mul__, taps, window)) > 0
            query[k // columns * size + y][k % columns * size + x][c] = 215 if light else 40
    assert vector["K"]["shape"] == [height, width, channels]
    shape = b"".join(one.to_bytes(4, "big") for one in vector["K"]["shape"])
    values = bytes(value for row in query for pixel in row for value in pixel)
    assert sha256(b"modelguard/v1/array\0", shape, values).hex() == vector["K"]["digest"]

    carriers = []
    for secret in secrets:
        chips = bits("C", secret, across**2 * inner**2)
        for at in range(0, len(chips), inner**2):
            own = chips[at : at + inner**2]
            carriers.append([inner**2 * sign - sum(own) for sign in own])
    packed = b"".join(value.to_bytes(8, "little", signed=True) for own in carriers for value in own)
    assert sha256(packed).hex() == vector["C"]["sha256"]

    def enlarged(value):  # of a pixel of the query
        rows = [[value(pixel) for pixel in row for _ in range(scale)] for row in query]
        return [row for row in rows for _ in range(scale)]

    def correlation(picture, n):
        leaf, at = divmod(n, across**2)
        top = (leaf // columns * size + at // across * cell) * scale
        left = (leaf % columns * size + at % across * cell) * scale
        return sum(
            carriers[n][y // (chip * scale) * inner + x // (chip * scale)] * picture[top + y][left + x]
            for y, x in itertools.product(range(cell * scale), repeat=2)
        )

    def product(one, two):
        return sum(map(int.__mul__, itertools.chain(*one), itertools.chain(*two)))

    a = enlarged(lambda pixel: sum(2 * (255 - value // 2) - 255 for value in pixel))
    k = enlarged(lambda pixel: sum(2 * value - 255 for value in pixel))
    kk, ak = product(k, k) >> 12, product(a, k) >> 12
    scores = [correlation(a, n) * kk - correlation(k, n) * ak for n in range(len(carriers))]
    assert scores == vector["scores"]


@pytest.mark.parametrize("vector", load("tone_carriers")["vectors"], ids=["grey", "colour"])
def test_tone_carriers_by_hand(vector):
    scheme, salt = vector["scheme"], bytes.fromhex(vector["salt"])
    channels, scale, side = scheme["channels"], scheme["scale"], 64

    def picture(label, side):
        rough = -(-side // 4) + 2
        drawn = hashlib.shake_256(label.encode()).digest(rough * rough * channels)

        def pixel(y, x, c):
            window = itertools.product(range(y, y + 7), range(x, x + 7))
            return sum(drawn[(v // 4 * rough + u // 4) * channels + c] for v, u in window) // 49

        return [[[pixel(y, x, c) for c in range(channels)] for x in range(side)] for y in range(side)]

    def digest(image):
        values = bytes(value for row in image for pixel in row for value in pixel)
        sides = b"".join(one.to_bytes(4, "big") for one in (len(image), len(image[0]), channels))
        return sha256(b"modelguard/v1/array\0", sides, values).hex()

    query, rest = picture("photo", side), picture("answer", side * scale)
    pixels = range(side * scale)
    answer = [
        [
            [query[y // scale][x // scale][c] // 2 + rest[y][x][c] // 4 for c in range(channels)]
            for x in pixels
        ]
        for y in pixels
    ]
    assert (digest(query), digest(answer)) == (vector["query"], vector["answer"])

    waves = []
    for secret, expected in zip(vector["xK"], vector["waves"], strict=True):
        drawn = shake("W", salt, bytes.fromhex(secret), 64 * (channels + 3))
        rows = [drawn[at : at + channels + 3] for at in range(0, len(drawn), channels + 3)]
        waves += [[row[0], *(byte - 256 * (byte > 127) for byte in row[1:])] for row in rows]
        packed = b"".join(v.to_bytes(8, "little", signed=True) for row in waves[-64:] for v in row)
        assert sha256(packed).hex() == expected["sha256"]
        assert waves[-64] == [expected["phase"], *expected["k"]]
    for secret, expected in zip(vector["xb"], vector["b"], strict=True):
        data = shake("b", salt, bytes.fromhex(secret), 8)
        assert [1 if data[n // 8] >> (7 - n % 8) & 1 else -1 for n in range(64)] == expected

    def at(y, x):
        return min(max(y, 0), side - 1) * side + min(max(x, 0), side - 1)

    def mean(plane, r):
        reach, share = range(-r, r + 1), (2 * r + 1) ** 2
        across = [sum(plane[at(y, x + d)] for d in reach) for y in range(side) for x in range(side)]
        both = [sum(across[at(y + d, x)] for d in reach) for y in range(side) for x in range(side)]
        return [value // share for value in both]

    def each(function, *planes):
        return list(map(function, *planes))

    def detail(plane):
        return each(int.__sub__, plane, mean(mean(plane, 3), 3))

    def cut(value, low, high):
        return min(max(value, low), high)

    squares = list(itertools.product(range(scale), repeat=2))
    shown = [
        [
            16 * sum(answer[y * scale + v][x * scale + u][c] for v, u in squares) // scale**2
            for y in range(side)
            for x in range(side)
        ]
        for c in range(channels)
    ]
    tone = each(lambda *values: sum(values) // channels, *shown)
    contrast = mean(mean(each(abs, each(int.__sub__, mean(tone, 1), mean(tone, 4))), 2), 2)
    gain = [cut(value + 24, 24, 96) for value in contrast]
    fine = each(lambda a, b: 4 * (a - b), mean(mean(tone, 2), 2), mean(mean(tone, 5), 5))
    texture = [4096 * value // (value + 128) for value in contrast]
    coordinates = list(zip(*(mean(mean(one, 2), 1) for one in shown), fine, texture, strict=True))

    a = detail(tone)
    q = detail([16 * sum(pixel) // channels for row in query for pixel in row])
    shared, own = mean(each(int.__mul__, a, q), 6), mean(each(int.__mul__, q, q), 6)
    beyond = [cut(a[n] - shared[n] * q[n] // (own[n] + 1024), -96, 96) for n in range(side**2)]
    force = detail(each(int.__mul__, beyond, gain))

    def wave(one, n):
        turn = ((sum(map(int.__mul__, one[1:], coordinates[n])) >> 8) + one[0]) & 255
        return (1 if turn < 128 else -1) * (turn % 128 * (128 - turn % 128) >> 5)

    z = [sum(force[n] * wave(one, n) for n in range(side**2)) for one in waves]
    third = [y * side + x for y in range(0, side, 3) for x in range(0, side, 3)]
    parts = []
    for one in waves:
        values = [wave(one, n) for n in third]
        level = sum(values) // len(values)
        parts.append([(value - level) * gain[n] for value, n in zip(values, third, strict=True)])
    overlap = [[sum(map(int.__mul__, one, two)) for two in parts] for one in parts]
    step = (max(sum(map(abs, row)) for row in overlap) >> 11) + (1 << 26)
    overlap = [[value >> 11 for value in row] for row in overlap]
    x = [0] * len(z)
    for _ in range(100):
        given = [sum(map(int.__mul__, row, x)) for row in overlap]
        x = [old + ((aim << 16) - pull) // step for old, aim, pull in zip(x, z, given, strict=True)]
    assert x == vector["scores"]


# --- filters: written from the format alone, in exact integers of numpy; the package sums floats ------------


def picture(label, side, channels):
    rough = -(-side // 4) + 2
    drawn = hashlib.shake_256(label.encode()).digest(rough * rough * channels)
    values = np.frombuffer(drawn, np.uint8).reshape(rough, rough, channels).astype(np.int64)
    large = values.repeat(4, 0).repeat(4, 1)
    return sum(large[y : y + side, x : x + side] for y in range(7) for x in range(7)) // 49


def mean(plane, r):
    for axis in (0, 1):
        ends = [(r, r) if axis == one else (0, 0) for one in (0, 1)]
        wide, side = np.pad(plane, ends, mode="edge"), plane.shape[axis]
        plane = sum(np.take(wide, range(d, d + side), axis) for d in range(2 * r + 1))
    return plane // (2 * r + 1) ** 2


def detail(plane):
    return plane - mean(mean(plane, 3), 3)


def wave(turn):
    return (turn % 128 * (128 - turn % 128) >> 5) * (1 if turn % 256 < 128 else -1)


def signs(label, vector, secret, count):
    data = shake(label, bytes.fromhex(vector["salt"]), bytes.fromhex(vector[secret]), -(-count // 8))
    return np.array([1 if byte >> n & 1 else -1 for byte in data for n in range(7, -1, -1)])[:count]


def changes_of(vector):
    """Return the answer's tone and the fine structure of each of its channels beyond the photo's."""
    channels, scale = vector["scheme"]["channels"], vector["scheme"]["scale"]
    query = picture("photo", 64, channels)
    answer = query.repeat(scale, 0).repeat(scale, 1) - picture("answer", 64 * scale, channels) // 32
    grid = answer.reshape(64, scale, 64, scale, channels)
    shown = 16 * grid.sum((1, 3)) // scale**2
    fine = [detail(shown[..., c]) - detail(16 * query[..., c]) for c in range(channels)]
    return shown.sum(2) // channels, fine


def filtered(tone, filters):
    r = len(filters[0]) // 2
    wide, found = np.pad(tone, r, mode="edge"), []
    for one in filters:
        total = 0
        for y, x in itertools.product(range(2 * r + 1), repeat=2):
            total = total + one[y][x] * wide[y : y + 64, x : x + 64]
        found.append((total >> 33).clip(-96, 96))
    return found


def scores_of(features, changes, steps):
    features = np.stack(features)
    few = features[:, ::3, ::3].reshape(len(features), -1)
    overlap = 9 * few @ few.T
    power = int(np.trace(overlap)) // len(features)
    damped = overlap + (power // 10 + 256) * np.eye(len(features), dtype=np.int64)
    scores = []
    for change in changes:
        shared, found = features.reshape(len(features), -1) @ change.reshape(-1), 0 * overlap[0]
        for _ in range(steps):
            found = found + ((shared << 16) - damped @ found) // int(abs(damped).sum(1).max())
        scores += (found * (power // (int((change * change).sum()) // change.size + 256))).tolist()
    return scores


def digest(filters):
    return sha256(np.array(filters).astype("<i8").tobytes()).hex()


@pytest.mark.parametrize("vector", load("odd_filters")["vectors"], ids=["grey", "colour inside"])
def test_odd_filters_by_hand(vector):
    carriers = signs("W", vector, "xK", 192)
    assert carriers.tolist() == vector["carriers"]
    assert signs("b", vector, "xb", 192).tolist() == vector["b"]
    tone, fine = changes_of(vector)
    if grey := len(fine) == 1:
        changes = [fine[0].clip(-96, 96)]
    else:
        red, green, blue = fine
        ways = ((148, red + green + blue), (181, red - blue), (105, red - 2 * green + blue))
        changes = [(length * change >> 8).clip(-96, 96) for length, change in ways]
    g = [256, 251, 238, 217, 190, 161, 131, 103, 78, 57, 40]
    axis = range(-10, 11)
    filters = [
        [
            [
                wave(16 * (i * y + j * x)) * g[abs(y)] * g[abs(x)] * math.isqrt(64 * (i * i + j * j))
                for x in axis
            ]
            for y in axis
        ]
        for i, j in itertools.product(range(7), range(-6, 7))
        if (i, j) > (0, 0) and i * i + j * j <= 40
    ]
    assert digest(filters) == load("odd_filters")["filters"]
    bright = (2 * (mean(mean(tone, 2), 2) // 16 - 112)).clip(-192, 192)
    classes = (128, bright, (bright * bright >> 7) - 80) if grey else (128,)
    features = [kind * one >> 7 for kind in classes for one in filtered(tone, filters)]
    assert (carriers * scores_of(features, changes, 100)).tolist() == vector["scores"]


@pytest.mark.parametrize("vector", load("symmetric_filters")["vectors"], ids=["as large", "twice as large"])
def test_symmetric_filters_by_hand(vector):
    carriers = signs("W", vector, "xK", 102)
    assert carriers.tolist() == vector["carriers"]
    assert signs("b", vector, "xb", 102).tolist() == vector["b"]
    tone, (red, green, blue) = changes_of(vector)
    ways = ((181, red - blue), (105, red - 2 * green + blue))
    changes = [(length * change >> 8).clip(-96, 96) for length, change in ways]
    g, axis = [256, 245, 215, 173, 128, 87, 54], range(-6, 7)
    pairs = [(i, j) for i in range(6) for j in range(i + 1) if 2 <= i * i + j * j <= 34]
    gains = [16, 27, 19, 41, 50, 42, 43, 89, 75, 70, 88, 89, 185, 116, 114, 163, 191]
    window, filters = np.array([[g[abs(y)] * g[abs(x)] for x in axis] for y in axis]), []
    for (i, j), gain in zip(pairs, gains, strict=True):
        images = {(i, j), (j, i)} | ({(i, -j), (j, -i)} if j else set())
        shape = [[sum(wave(22 * (a * y + b * x) + 64) for a, b in images) for x in axis] for y in axis]
        shape = shape * window
        shape = shape - window * int(shape.sum()) // int(window.sum())
        shape[6, 6] -= shape.sum()
        filters.append(gain * shape)
    assert digest(filters) == load("symmetric_filters")["filters"]
    bright = (2 * (mean(mean(tone, 2), 2) // 16 - 112)).clip(-192, 192)
    contrast = mean(abs(tone - mean(tone, 2)), 2)
    rough = 256 * (contrast - 320) // (contrast + 320)
    features = [kind * one >> 7 for kind in (128, bright, rough) for one in filtered(tone, filters)]
    assert (carriers * scores_of(features, changes, 1000)).tolist() == vector["scores"]
