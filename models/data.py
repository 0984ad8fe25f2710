"""Labelled images: scikit-learn's digits (embedded), or IDX files (MNIST, Fashion-MNIST) from a directory."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..emulator.errors import HalfulpError

#: Environment variable that names the directory of IDX files.
DATA_VARIABLE = "HALFULP_DATA"

_FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}


class Dataset(NamedTuple):
    """Images as rows in [0, 1] (float64) and integer labels."""

    name: str
    train_x: np.ndarray  #: (n_train, pixels)
    train_y: np.ndarray  #: (n_train,)
    test_x: np.ndarray
    test_y: np.ndarray

    @property
    def classes(self) -> int:
        return int(max(self.train_y.max(), self.test_y.max())) + 1


def digits() -> Dataset:
    """1,797 8 x 8 digits (E. Alpaydin, C. Kaynak; doi:10.24432/C50P49), pixels 0...16 divided by 16.

    The split is fixed: the first 1,437 of a permutation seeded with 0 train, the other 360 test.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x, y = bunch.data[order] / 16.0, bunch.target[order].astype(np.int64)
    return Dataset("digits", x[:1437], y[:1437], x[1437:], y[1437:])


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped (format: Y. LeCun, the MNIST page)."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise HalfulpError(f"cannot read {path}: {error}.") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise HalfulpError(f"{path} is not an IDX file of unsigned bytes (it must begin with 00 00 08).")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise HalfulpError(f"{path} ends inside its IDX header.")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    if len(raw) - header != int(np.prod(shape)):
        raise HalfulpError(
            f"{path} holds {len(raw) - header} bytes where its header {shape} asks for {int(np.prod(shape))}."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def idx_directory(directory: str | Path) -> Dataset:
    """MNIST-type data: the four IDX files of the original distribution, gzipped or not."""
    folder = Path(directory)
    if not folder.is_dir():
        raise HalfulpError(f"no directory {folder}: --data takes a folder with MNIST's four IDX files.")
    arrays = {}
    for part, stem in _FILES.items():
        found = next((folder / name for name in (stem, stem + ".gz") if (folder / name).is_file()), None)
        if found is None:
            raise HalfulpError(f"{folder} lacks {stem}[.gz].")
        arrays[part] = read_idx(found)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or len(images) == 0:
            raise HalfulpError(
                f"{folder}: {split} images {images.shape} and labels {labels.shape} do not belong together."
            )
        arrays[f"{split}_x"] = images.reshape(len(images), -1) / 255.0
        arrays[f"{split}_y"] = labels.astype(np.int64)
    if arrays["train_x"].shape[1] != arrays["test_x"].shape[1]:
        raise HalfulpError(f"{folder}: training and test images differ in size.")
    return Dataset(folder.name, **arrays)


def load(directory: str | Path | None = None) -> Dataset:
    """The IDX files in ``directory`` or ``$HALFULP_DATA``, else the embedded digits."""
    directory = directory or os.environ.get(DATA_VARIABLE) or None
    return digits() if directory is None else idx_directory(directory)
