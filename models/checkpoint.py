"""Checkpoints: a run of training, whole, in one file. What is resumed from it ends in the same bits."""

from __future__ import annotations

import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..emulator.errors import HalfulpError
from ..emulator.files import write_atomically
from ..emulator.ledger import Ledger
from ..emulator.names import scalar_format
from ..kernels.operands import Operand
from .data import Dataset
from .layers import Layer
from .networks import Architecture
from .training import Epoch, Trainer, parameters

SCHEMA = 1
NAME = "model.npz"  #: of the file in a run's folder


def fingerprint(data: Dataset) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the data, and of what they are."""
    sha = hashlib.sha256(repr((data.shape, float(data.levels), data.classes)).encode())
    for array in (data.train_x, data.train_y, data.test_x, data.test_y):
        sha.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def _about(trainer: Trainer) -> dict[str, Any]:
    """What has to be the same for a run to be gone on with."""
    recipe = trainer.recipe
    given = recipe.describe() | {"seed": recipe.seed, "data": trainer.data.name}
    if not recipe.optimiser.cosine and not recipe.policy.goes_by_length:
        del given["epochs"]  # there may be more than there were to be
    given |= {"data_sha256": fingerprint(trainer.data), "halfulp": version("halfulp")}
    return json.loads(json.dumps(given))


def save(trainer: Trainer, path: Path) -> None:
    """Write the run as it is at an epoch's end: whole, or not at all."""
    result, arrays, formats = trainer.result, dict[str, np.ndarray](), dict[str, str]()
    for name, parameter in parameters(result.network).items():
        arrays[f"weights/{name}"] = trainer.run.host(parameter.value)
        formats[name] = str(parameter.value.fmt)
        arrays |= {f"state/{name}/{key}": np.asarray(values) for key, values in parameter.state.items()}
    for layer in result.network.walk():
        arrays |= {f"buffers/{layer.name}/{key}": values for key, values in layer.buffers().items()}
    data = trainer.data
    meta = {
        "schema": SCHEMA,
        "about": _about(trainer),
        "network": trainer.recipe.architecture.name,
        "options": dict(trainer.recipe.architecture.options),
        "data": {"shape": data.shape, "levels": data.levels, "classes": data.classes, "inputs": data.train_x.shape[1]},
        "formats": formats,
        "epochs": [list(epoch) for epoch in result.epochs],
        "policy": trainer.recipe.policy.state,
        "ledgers": {role: ledger.state() for role, ledger in result.ledgers.items()},
        "inference": result.inference.state(),
        "stored_bits": result.stored_bits,
    }
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a checkpoint tells, and its arrays. Raises HalfulpError where the file is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        known = meta["schema"] == SCHEMA
    except OSError as error:
        raise HalfulpError(f"the model {path} cannot be read: {error.strerror or error}.") from None
    except Exception:  # a damaged archive raises what it likes
        raise HalfulpError(f"{path} is no model that halfulp train wrote, or is cut off.") from None
    if not known:
        raise HalfulpError(f"{path} was written by another version of halfulp.")
    return meta, arrays


def _fill(network: Layer, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    for name, parameter in parameters(network).items():
        parameter.value = Operand(arrays[f"weights/{name}"], scalar_format(meta["formats"][name]), None)
        head = f"state/{name}/"
        parameter.state = {key.removeprefix(head): arrays[key] for key in arrays if key.startswith(head)}
    for layer in network.walk():
        for key, values in layer.buffers().items():
            values[...] = arrays[f"buffers/{layer.name}/{key}"]


def resume(trainer: Trainer, path: Path) -> bool:
    """Go on from a checkpoint, if there is one.

    Raises HalfulpError where it is of another run.
    """
    if not path.exists():
        return False
    meta, arrays = read(path)
    about, mine = meta["about"], _about(trainer)
    different = [key for key in {**about, **mine} if about.get(key) != mine.get(key)]
    if different:
        raise HalfulpError(f"{path} is of another run ({', '.join(different)} differ): remove it, or write elsewhere.")
    done, asked = len(meta["epochs"]), trainer.recipe.epochs
    if done > asked:
        raise HalfulpError(f"{path} has done {done} epochs, more than the {asked} that are asked for.")
    result = trainer.result
    _fill(result.network, meta, arrays)
    result.epochs = [Epoch(*epoch) for epoch in meta["epochs"]]
    trainer.recipe.policy.state = meta["policy"]
    for role, ledger in result.ledgers.items():
        ledger.restore(meta["ledgers"][role])
    result.inference = Ledger()
    result.inference.restore(meta["inference"])
    result.stored_bits = meta["stored_bits"]
    return True


def network_of(path: Path, data: Dataset) -> tuple[Layer, dict[str, Any]]:
    """The network in a checkpoint, for inference on data of the kind that it was trained on; and what it tells."""
    meta, arrays = read(path)
    kind = {"shape": list(data.shape), "classes": data.classes, "inputs": data.train_x.shape[1]}
    for key, value in kind.items():
        if meta["data"][key] != value:
            raise HalfulpError(f"{path} was trained on data whose {key} is {meta['data'][key]}, not {value}.")
    network = Architecture.of(meta["network"], **meta["options"]).build(data, 0)
    _fill(network, meta, arrays)
    return network, meta
