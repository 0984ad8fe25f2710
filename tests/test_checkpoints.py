"""Checkpoints: runs that were interrupted go on to the same bits, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import halfulp as hu
import numpy as np
import pytest
from halfulp.models import checkpoint, policies
from halfulp.models.arithmetic import Arithmetic
from halfulp.models.optimisers import SGD
from halfulp.models.precision import Precision, Scheduled, Static
from halfulp.models.training import Recipe, Trainer, accuracy, infer
from training_cases import DIGITS, FP64, recipe, same, weights_of


def whole(trainer: Trainer) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]], object, object]:
    found = trainer.result
    states = [p.state for p in found.parameters.values()]
    buffers = [{k: v.tobytes() for k, v in layer.buffers().items()} for layer in found.network.walk()]
    return weights_of(found), states, found.ledgers, (found.epochs, buffers)


def made() -> Recipe:
    policy = Scheduled(
        ((1, Static(Precision.of("bf16@SR8", "bf16@SR8", "bf16"))), (3, Static(Precision.of("bf16/fp32", "fp32"))))
    )
    return recipe(policy, "resnet20", SGD(0.05, momentum=0.9, decay=0.9), epochs=4, width=2, depth=1)


def test_a_run_resumed_after_any_epoch_ends_in_the_same_bits(tmp_path: Path) -> None:
    data, path = DIGITS.first(96), tmp_path / checkpoint.NAME
    through = Trainer(data, made())
    through.finish()
    for _ in range(4):  # a new trainer for each epoch
        trainer = Trainer(data, made())
        checkpoint.resume(trainer, path)
        trainer.epoch()
        checkpoint.save(trainer, path)
    found, expected = whole(trainer), whole(through)
    assert trainer.finished and same(found[0], expected[0]) and found[2:] == expected[2:]
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(found[1], expected[1], strict=True) for key in b)
    assert trainer.result.stored_bits == through.result.stored_bits
    network, meta = checkpoint.network_of(path, data)
    again = infer(network, data, data.test_x, Arithmetic(made().policy.phases[1][1], training=False))  # type: ignore[attr-defined]
    assert meta["network"] == "resnet20" and 0 < accuracy(again, data.test_y) <= 1


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "halfulp", "train", "--epochs", "12", "--limit", "320", "--momentum", "0.9"]
    command += ["--forward", "bf16", "--update", "bf16", "--rounding", "SR8", "--learning-rate", "0.02"]
    environment = os.environ | {"HALFULP_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    running = subprocess.Popen([*command, "--out", str(killed)], env=environment, stdout=subprocess.DEVNULL)
    patience = time.monotonic() + 120
    while not (killed / checkpoint.NAME).exists():
        assert running.poll() is None and time.monotonic() < patience
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    found = subprocess.run(
        [*command, "--out", str(killed)], env=environment, capture_output=True, text=True, check=True
    )
    assert "of 12 epochs are done" in found.stdout
    subprocess.run([*command, "--out", str(whole)], env=environment, capture_output=True, check=True)
    assert (killed / "record.json").read_bytes() == (whole / "record.json").read_bytes()
    metas, arrays = zip(*(checkpoint.read(path / checkpoint.NAME) for path in (killed, whole)), strict=True)
    assert metas[0] == metas[1] and all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[1])


def test_checkpoints_that_are_none_or_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.NAME
    trainer = Trainer(DIGITS.first(64), recipe(FP64))
    assert not checkpoint.resume(trainer, path)
    trainer.epoch()
    checkpoint.save(trainer, path)
    for other, said in (
        (recipe(FP64, batch=16), r"another run \(batch differ\)"),
        (recipe(Precision.of("fp32", "fp64")), r"another run \(policy differ\)"),
        (recipe(FP64, seed=1), r"another run \(seed differ\)"),
    ):
        with pytest.raises(hu.HalfulpError, match=said):
            checkpoint.resume(Trainer(DIGITS.first(64), other), path)
    with pytest.raises(hu.HalfulpError, match="data_sha256 differ"):
        checkpoint.resume(Trainer(DIGITS.first(63), recipe(FP64)), path)
    longer = Trainer(DIGITS.first(64), recipe(FP64, epochs=2))
    assert checkpoint.resume(longer, path) and not longer.finished  # more epochs than were to be
    longer.finish()
    checkpoint.save(longer, path)
    with pytest.raises(hu.HalfulpError, match="has done 2 epochs, more than the 1"):
        checkpoint.resume(Trainer(DIGITS.first(64), recipe(FP64)), path)
    with pytest.raises(hu.HalfulpError, match="data_sha256 differ"):
        checkpoint.resume(Trainer(DIGITS.first(64)._replace(levels=4.0), recipe(FP64, epochs=2)), path)
    written, (meta, arrays) = path.read_bytes(), checkpoint.read(path)
    for place in range(0, len(written), 41):  # a bit that is turned is found, or in what nobody reads
        path.write_bytes(written[:place] + bytes([written[place] ^ 0x10]) + written[place + 1 :])
        try:
            found = checkpoint.read(path)
        except hu.HalfulpError:
            continue
        assert found[0] == meta and all(np.array_equal(found[1][name], arrays[name]) for name in arrays)
    path.write_bytes(written[:-200])
    with pytest.raises(hu.HalfulpError, match="cut off"):
        checkpoint.read(path)
    with pytest.raises(hu.HalfulpError, match="cannot be read"):
        checkpoint.read(tmp_path / "nowhere.npz")


def test_a_run_whose_policy_goes_by_its_length_is_not_made_longer(tmp_path: Path) -> None:
    trainer, path = Trainer(DIGITS.first(64), recipe(policies.Cyclic())), tmp_path / checkpoint.NAME
    trainer.epoch()
    checkpoint.save(trainer, path)
    with pytest.raises(hu.HalfulpError, match=r"another run \(epochs differ\)"):
        checkpoint.resume(Trainer(DIGITS.first(64), recipe(policies.Cyclic(), epochs=2)), path)


def test_a_ledger_is_restored_from_its_state() -> None:
    for text in ("fp8_e4m3/fp16:fused4", "mxfp4/fp32", "q4.4/q8.8/q4.4@RNE/SR4", "posit8/fp16"):
        machine = hu.Machine(text, on_inexact="quantize")
        machine.matmul(np.ones((2, 32)), np.ones((32, 3)))
        other = hu.Ledger()
        other.restore(machine.ledger.state())
        assert other == machine.ledger


# ---- inference in another precision
