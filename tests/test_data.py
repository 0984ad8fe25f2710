"""Data: IDX files, batches of CIFAR-10, texts, and what is refused."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.models import data as datasets
from halfulp.models.optimisers import SGD
from halfulp.models.precision import Precision
from halfulp.models.training import train
from training_cases import recipe


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    raw = (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 12), ("t10k", 5)):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 4, 4)), True)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(count) % 3, False)
    return tmp_path


def test_idx_files_packed_or_not(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load(idx_folder)
    assert (
        data.train_x.shape == (12, 16)
        and data.test_y.tolist() == [0, 1, 2, 0, 1]
        and (data.shape, data.levels, data.classes) == ((1, 4, 4), 255.0, 3)
    )
    assert data.inputs(data.train_x).max() == data.train_x.max() / 255
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(idx_folder))
    assert datasets.load().name == idx_folder.name
    monkeypatch.delenv(datasets.DATA_VARIABLE)
    assert datasets.load().name == "digits"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train-images-idx3-ubyte.gz", b"not gzip", "cannot read"),
        ("train-labels-idx1-ubyte", b"\0\0\x09\x01\0\0\0\x01\0", "not an IDX file"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x07" + 28 * b"\xff", "in 1 dimension: it begins with 00 00 08 07, not"),
        ("train-images-idx3-ubyte", b"", "in 3 dimensions: it begins with nothing, not 00 00 08 03"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x05\0", "header"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0", "ends inside"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\0", "do not belong together"),
        ("train-labels-idx1-ubyte", None, "lacks train-labels"),
    ],
)
def test_damaged_idx_data_is_refused_in_a_sentence(
    idx_folder: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is None:
        os.remove(idx_folder / name)
    else:
        (idx_folder / name).write_bytes(content)
    with pytest.raises(hu.HalfulpError, match=sentence):
        datasets.load(idx_folder)


def cifar(folder: Path, name: str, records: int, label: int | None = None, cut: int = 0) -> None:
    rng = np.random.default_rng(records)
    raw = rng.integers(0, 256, (records, 3073)).astype(np.uint8)
    raw[:, 0] = np.arange(records) % 10 if label is None else label
    (folder / name).write_bytes(raw.tobytes()[: -cut or None])


def test_cifar_batches(tmp_path: Path) -> None:
    cifar(tmp_path, "data_batch_1.bin", 20)
    cifar(tmp_path, "data_batch_2.bin", 10)
    cifar(tmp_path, "test_batch.bin", 10)
    data = datasets.load(tmp_path)
    assert data.shape == (3, 32, 32) and data.train_x.shape == (30, 3072) and data.train_y[:3].tolist() == [0, 1, 2]
    run = train(data, recipe(Precision.of("bf16/fp32", "fp32"), "cifar", SGD(0.01), batch=10, channels=4))
    assert not run.diverged and run.ledgers["forward"].n_mul > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"label": 10}, "has a label 10; CIFAR-10's are 0...9"), ({"cut": 5}, "not one record of 3073 bytes")],
)
def test_damaged_cifar_batches_are_refused(tmp_path: Path, options: dict[str, int], said: str) -> None:
    cifar(tmp_path, "test_batch.bin", 4)
    with pytest.raises(hu.HalfulpError, match="lacks data_batch_1"):
        datasets.load(tmp_path)
    cifar(tmp_path, "data_batch_1.bin", 4, **options)
    with pytest.raises(hu.HalfulpError, match=said):
        datasets.load(tmp_path)
    cifar(tmp_path, "data_batch_3.bin", 4)
    with pytest.raises(hu.HalfulpError, match="lacks data_batch_2"):
        datasets.load(tmp_path)


def test_labels_out_of_range_and_short_texts_are_refused(idx_folder: Path, tmp_path: Path) -> None:
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.array([0, 1, 2, 7, 0]), False)
    with pytest.raises(hu.HalfulpError, match=r"the label of test image 3 is 7, but training's are 0\.\.\.2"):
        datasets.load(idx_folder)
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.array([0, 1, 2, 9] * 3), False)
    with pytest.raises(
        hu.HalfulpError, match=r"the label of training image 3 is 9, but none is labelled 3: labels count"
    ):
        datasets.load(idx_folder)
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(hu.HalfulpError, match="too few"):
        datasets.load(tmp_path / "short.txt")
