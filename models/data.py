"""Labelled data: scikit-learn's digits (embedded); from a directory, IDX files (MNIST, Fashion-MNIST) or CIFAR-10's
binary batches; or a text, cut into sequences."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError

#: Environment variable that names the directory of the data.
DATA_VARIABLE = "HALFULP_DATA"

_IDX = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
_CIFAR = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR_SHAPE = (3, 32, 32)
_CLASSES = 10  #: of CIFAR-10


class Dataset(NamedTuple):
    """Inputs, a row each, and what they are to give. Pixels are bytes, ``levels`` of which are 1.0; tokens of a text
    are whole numbers, with a target a place."""

    name: str
    train_x: np.ndarray  #: (n_train, pixels) or (n_train, places)
    train_y: np.ndarray  #: (n_train,) or (n_train, places)
    test_x: np.ndarray
    test_y: np.ndarray
    shape: tuple[int, int, int] = (1, 1, 1)  #: of an image: channels, height, width
    levels: float = 1.0
    classes: int = 0

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Rows of inputs as numbers, float64."""
        return x / self.levels

    def first(self, count: int) -> Dataset:
        """The same with the first of the training rows only."""
        return self._replace(train_x=self.train_x[:count], train_y=self.train_y[:count])


def digits() -> Dataset:
    """1,797 8 x 8 digits (E. Alpaydin, C. Kaynak; doi:10.24432/C50P49), pixels 0...16.

    The split is fixed: the first 1,437 of a permutation seeded with 0 train, the other 360 test.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x, y = bunch.data[order].astype(np.uint8), bunch.target[order].astype(np.int64)
    return Dataset("digits", x[:1437], y[:1437], x[1437:], y[1437:], (1, 8, 8), 16.0, 10)


def _bytes_of(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise HalfulpError(f"cannot read {path}: {error}.") from None


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped (format: Y. LeCun, the MNIST page)."""
    raw, magic = _bytes_of(path), bytes([0, 0, 8, dimensions])
    if raw[:4] != magic:
        raise HalfulpError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}: it begins"
            f" with {raw[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')}."
        )
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise HalfulpError(f"{path} ends inside its IDX header.")
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise HalfulpError(
            f"{path} holds {len(raw) - header} bytes where its header {shape} asks for {math.prod(shape)}."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _existing(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in (stem, stem + ".gz") if (folder / name).is_file()), None)


def idx_directory(folder: Path) -> Dataset:
    """MNIST-type data: the four IDX files of the original distribution, gzipped or not."""
    arrays = {}
    for part, stem in _IDX.items():
        found = _existing(folder, stem)
        if found is None:
            raise HalfulpError(f"{folder} lacks {stem}[.gz].")
        arrays[part] = read_idx(found, 3 if part.endswith("x") else 1)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if images.size == 0:
            raise HalfulpError(f"{folder} holds no {split} images: their shape is {images.shape}.")
        if len(images) != len(labels):
            raise HalfulpError(
                f"{folder}: {split} images {images.shape} and labels {labels.shape} do not belong together."
            )
    if arrays["train_x"].shape[1:] != arrays["test_x"].shape[1:]:
        raise HalfulpError(f"{folder}: training and test images differ in size.")
    shape = (1, *arrays["train_x"].shape[1:])
    classes = int(arrays["train_y"].max()) + 1
    missing = np.setdiff1d(np.arange(classes), arrays["train_y"])
    if missing.size:
        raise HalfulpError(
            f"{folder}: the label of training image {int(arrays['train_y'].argmax())} is {classes - 1}, but none is"
            f" labelled {missing[0]}: labels count from 0 on, without a gap."
        )
    if arrays["test_y"].max() >= classes:
        raise HalfulpError(
            f"{folder}: the label of test image {int(arrays['test_y'].argmax())} is {arrays['test_y'].max()}, but"
            f" training's are 0...{classes - 1} only."
        )
    for part in ("train_x", "test_x"):
        arrays[part] = arrays[part].reshape(len(arrays[part]), -1)
    targets = {part: arrays[part].astype(np.int64) for part in ("train_y", "test_y")}
    return Dataset(folder.name, **(arrays | targets), shape=shape, levels=255.0, classes=classes)


def cifar_directory(folder: Path) -> Dataset:
    """CIFAR-10 as its "binary version" has it: records of a label and 3 x 32 x 32 bytes (A. Krizhevsky, 2009), in
    data_batch_1.bin ... and test_batch.bin, gzipped or not; of training's as many, from the first on, as there are."""
    size = int(np.prod(_CIFAR_SHAPE)) + 1
    found: dict[str, np.ndarray] = {}
    for split, names in _CIFAR.items():
        there = [_existing(folder, name) for name in names]
        paths = [path for path in there if path]
        if not all(there[: max(len(paths), 1)]):
            raise HalfulpError(f"{folder} lacks {names[there.index(None)]}[.gz].")
        records = []
        for path in paths:
            raw = _bytes_of(path)
            if not raw or len(raw) % size:
                raise HalfulpError(f"{path} holds {len(raw)} bytes: not one record of {size} bytes after the other.")
            records.append(np.frombuffer(raw, np.uint8).reshape(-1, size))
            if records[-1][:, 0].max() >= _CLASSES:
                raise HalfulpError(f"{path} has a label {records[-1][:, 0].max()}; CIFAR-10's are 0...9.")
        found[split] = np.concatenate(records)
    (train_x, train_y), (test_x, test_y) = ((r[:, 1:], r[:, 0].astype(np.int64)) for r in found.values())
    return Dataset(folder.name, train_x, train_y, test_x, test_y, _CIFAR_SHAPE, 255.0, _CLASSES)


def text(path: Path, places: int = 32) -> Dataset:
    """A text's characters, in sequences of ``places`` that follow one another; each place's target is the character
    after it. The first nine tenths train."""
    try:
        read = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HalfulpError(f"cannot read {path} as text: {error}.") from None
    letters = {letter: i for i, letter in enumerate(sorted(set(read)))}
    tokens = np.array([letters[letter] for letter in read], np.int64)
    count = (len(tokens) - 1) // places
    if count < 10:
        raise HalfulpError(f"{path} has {len(tokens)} characters: too few for ten sequences of {places}.")
    x, y = (tokens[i : i + count * places].reshape(count, places) for i in (0, 1))
    train = count * 9 // 10
    return Dataset(path.stem, x[:train], y[:train], x[train:], y[train:], classes=len(letters))


def load(source: str | Path | None = None) -> Dataset:
    """The data in ``source`` or ``$HALFULP_DATA``: a folder of IDX files or CIFAR-10's batches, or a .txt file; else
    the embedded digits."""
    source = source or os.environ.get(DATA_VARIABLE) or None
    if source is None:
        return digits()
    path = Path(source)
    if path.is_file() and path.suffix == ".txt":
        return text(path)
    if not path.is_dir():
        raise HalfulpError(
            f"no directory {path}: --data takes a folder with MNIST's four IDX files or CIFAR-10's batches, or a .txt."
        )
    return cifar_directory(path) if _existing(path, _CIFAR["test"][0]) else idx_directory(path)
