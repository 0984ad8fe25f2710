"""Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep Learning with Limited Numerical Precision", ICML 2015 (arXiv
1502.02551): networks trained in fixed point of 16 bits, with stochastic rounding.

Every product of matrices is exact, summed in 48 bits, and converted once at its end (their §4); weights, biases, layer
outputs, errors and updates are all stored in fixed point. What the paper does not state is in ``ASSUMPTIONS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..emulator.accelerator import Array
from ..emulator.dataflow import Matmul
from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from ..emulator.names import scalar_format
from .networks import Architecture
from .optimisers import SGD
from .precision import Policy, Precision, Scheduled, Static
from .training import Recipe

WORD = 16  #: bits of a number in memory
ACCUMULATOR = 48  #: bits (their §5: the DSP units' 48-bit accumulators)
LOGITS = 6  #: integer bits of what the softmax takes in, at least
RANDOM_BITS = 16  #: of a stochastic rounding, at most as many as are cut off

#: What the paper does not state, and what is taken here.
ASSUMPTIONS = {
    "random bits": f"stochastic rounding draws {RANDOM_BITS} bits, or as many as are cut off where those are fewer",
    "what enters": "pixels are converted once a step, and errors at the softmax, which come from binary64, once, by as"
    " many random bits as products of matrices that give errors",
    "learning rate of the DNN": "0.5, not stated; float ends at 1.5 % on MNIST after 20 epochs, with 0.1 at 1.9 %",
    "gradient": "the loss's gradient is divided by the batch before it enters fixed point",
    "update": "-rate enters with 23 fractional bits; weights + (-rate) * update is rounded once, as everything is",
    "momentum": "the velocity, momentum times the last one plus the gradient, is stored in the updates' format, rounded"
    " like them, and then times the rate",
    "errors": "errors have the layer outputs' format",
    "initial weights of the CNN": "N(0, 0.05); the DNN's N(0, 0.01) are stated",
    "softmax": "what it takes in has 6 integer bits at least, <6,10>, as in the paper's CNN; <2,14> would end at 2",
    "words that get longer": "12 bits, then 16: <5,7> and <5,11> on digits, <3,9> and <3,13> on MNIST, where <4,8>"
    " breaks down in the 8th epoch or so; theirs are <4,12> and <4,16>, on CIFAR-10",
    "float": "binary32 for all of it, rounded at each step",
}


def fixed(integer_bits: int, fraction_bits: int) -> str:
    return f"q{integer_bits}.{fraction_bits}"


@dataclass(frozen=True)
class Scheme:
    """⟨IL, FL⟩ of what is stored, and how it is rounded there: "SR"; "RN", to nearest and ties down; or "float"."""

    rounding: str = "SR"
    fraction: int = 14  #: FL of weights and updates
    outputs: int | None = None  #: FL of layer outputs, where it is another one
    word: int = WORD

    def __post_init__(self) -> None:
        if self.rounding not in ("SR", "RN", "float"):
            raise HalfulpError(f"Gupta et al. round 'SR' or 'RN', or take 'float', not {self.rounding!r}.")
        for fraction in (self.fraction, self.fraction if self.outputs is None else self.outputs):
            if not 1 <= fraction < self.word:
                raise HalfulpError(f"of {self.word} bits 1 to {self.word - 1} are fractional, not {fraction}.")

    def __str__(self) -> str:
        if self.rounding == "float":
            return "float"
        inside = f", outputs <{self.word - self.outputs},{self.outputs}>" if self.outputs else ""
        return f"{self.rounding} <{self.word - self.fraction},{self.fraction}>{inside}"

    def _rounding(self, cut: int) -> str:
        return "RND" if self.rounding == "RN" else f"SR{max(1, min(RANDOM_BITS, cut))}"

    def _contraction(self, a: str, b: str, output: str, fractions: tuple[int, int, int]) -> str:
        last = fractions[0] + fractions[1]
        rounding = self._rounding(max(last - fractions[2], 1))
        return (
            f"{a}*{b}/{fixed(ACCUMULATOR - last, last)}/{output}@RNE/{rounding}:operands={self._rounding(RANDOM_BITS)}"
        )

    @property
    def precision(self) -> Precision:
        """As datapaths."""
        if self.rounding == "float":
            return Precision.of("fp32", "fp32")
        return self._storing(self.outputs or self.fraction)

    @property
    def last(self) -> Precision:
        """That of the layer before the softmax."""
        if self.rounding == "float":
            return self.precision
        return self._storing(min(self.outputs or self.fraction, self.word - LOGITS))

    def _storing(self, out: int) -> Precision:
        """Layer outputs with ``out`` fractional bits."""
        w, y = self.fraction, self.outputs or self.fraction
        weights, outputs = fixed(self.word - w, w), fixed(self.word - y, y)
        forward = self._contraction(outputs, weights, fixed(self.word - out, out), (y, w, out))
        grad_input = self._contraction(outputs, weights, outputs, (y, w, y))
        grad_weight = self._contraction(outputs, outputs, weights, (y, y, w))
        update = f"q1.23*{weights}/{weights}@{self._rounding(23)}"
        roles = [Datapath.parse(text) for text in (forward, grad_input, grad_weight, update)]
        return Precision(roles[0], roles[1], roles[2], roles[3], scalar_format(weights))


def dnn(
    policy: Policy, epochs: int = 10, seed: int = 0, hidden: int = 1000, sigma: float = 0.01, rate: float = 0.5
) -> Recipe:
    """Their MNIST network of two hidden layers of 1000: §3.1."""
    architecture = Architecture.of("mlp", hidden=(hidden, hidden), sigma=sigma)
    return Recipe(architecture, policy, SGD(rate), epochs, 100, seed, mean=True)


def cnn(policy: Policy, epochs: int = 10, seed: int = 0, sigma: float = 0.05) -> Recipe:
    """Their MNIST network of two convolutions: §3.2."""
    architecture = Architecture.of("lenet", channels=(8, 16), hidden=128, sigma=sigma)
    optimiser = SGD(0.1, weight_decay=5e-4, decay=0.95, momentum=0.9)
    return Recipe(architecture, policy, optimiser, epochs, 100, seed, mean=True)


def cifar(policy: Policy, epochs: int = 10, seed: int = 0) -> Recipe:
    """Their CIFAR-10 network of three convolutions: §3.3."""
    optimiser = SGD(0.01, decay=0.95, momentum=0.9)
    return Recipe(Architecture.of("cifar", sigma=0.05), policy, optimiser, epochs, 100, seed, mean=True)


#: Their networks.
RECIPES: dict[str, Callable[..., Recipe]] = {"dnn": dnn, "cnn": cnn, "cifar": cifar}
#: Their layers before the softmax.
LAST = {"dnn": "fc3", "cnn": "fc2", "cifar": "fc"}


def static(scheme: Scheme, network: str) -> Static:
    """A scheme for a whole network."""
    return Static(scheme.precision, {LAST[network]: scheme.last})


def escalated(before: Scheme, after: Scheme, epoch: int, network: str) -> Policy:
    """One scheme, and from an epoch on another with longer words (their §3.3: ⟨4,12⟩, then ⟨4,16⟩)."""
    if after.word - after.fraction < before.word - before.fraction or after.fraction < before.fraction:
        raise HalfulpError(f"{after} does not hold what {before} does: longer words have no fewer bits on either side.")
    return Scheduled(((1, static(before, network)), (epoch, static(after, network))))


#: A product of the DNN's size: a batch of 1000 through a layer of 784 x 1000.
WORKLOAD = Matmul(1000, 784, 1000)


#: What they say of their accelerator.
HARDWARE = (
    "28 x 28 = 784 multiply-accumulate units and 28 rounding units, one a column, on an FPGA of 28 nm at 166 MHz:"
    " 260 G-ops/s, 37 G-ops/s/W (their §5; not re-verified against the original)"
)


def hardware(node: str = "28nm") -> Array:
    """Their accelerator (§5): 28 x 28 units of 48 bits at 166 MHz, with a rounding unit a column. It is an FPGA of 28
    nm, which this prices as gates of ``node``. Ours, as it does not state them, are ⟨4,12⟩, 2 MiB of SRAM and a channel
    of DDR3-1600."""
    product = 2 * 12
    datapath = f"q4.12/{fixed(ACCUMULATOR - product, product)}/q4.12@RNE/SR12"
    return Array(28, 28, Datapath.parse(datapath), sram_kib=2048, dram="DDR3", clock_mhz=166, node=node)


class Row(NamedTuple):
    """A network trained in a scheme, and what the paper says of its test error."""

    network: str
    scheme: Scheme
    says: str
    after: Scheme | None = None  #: the scheme of the last third of the epochs, if it is another one
    data: str = ""  #: "few" or "many": only of so many inputs

    @property
    def label(self) -> str:
        return f"{self.scheme}" + (f", then {self.after}" if self.after else "")

    def policy(self, epochs: int) -> Policy:
        if self.after is None:
            return static(self.scheme, self.network)
        if epochs < 2:
            raise HalfulpError(f"{self.label} needs two epochs, one before and one after.")
        return escalated(self.scheme, self.after, epochs - max(1, epochs // 3) + 1, self.network)


#: What the paper says of MNIST (its figures 1 and 2), and of words that get longer late (of CIFAR-10, its figure 3).
ROWS = (
    Row("dnn", Scheme("float"), "1.4 %"),
    Row("dnn", Scheme("SR", 14), "no degradation"),
    Row("dnn", Scheme("SR", 10), "hardly any degradation"),
    Row("dnn", Scheme("SR", 8), "some degradation"),
    Row("dnn", Scheme("RN", 14), "no degradation"),
    Row("dnn", Scheme("RN", 10), "degrades"),
    Row("dnn", Scheme("RN", 8), "degrades"),
    Row("dnn", Scheme("SR", 7, word=12), "damage (CIFAR-10, <4,12>)", data="few"),
    Row("dnn", Scheme("SR", 7, word=12), "repaired (CIFAR-10, <4,16>)", Scheme("SR", 11), "few"),
    Row("dnn", Scheme("SR", 9, word=12), "damage (CIFAR-10, <4,12>)", data="many"),
    Row("dnn", Scheme("SR", 9, word=12), "repaired (CIFAR-10, <4,16>)", Scheme("SR", 13), "many"),
    Row("cnn", Scheme("float"), "0.77 %"),
    Row("cnn", Scheme("SR", 14, 10), "0.83 %"),
    Row("cnn", Scheme("SR", 12, 10), "0.90 %"),
    Row("cnn", Scheme("RN", 14, 10), "fails to converge"),
    Row("cnn", Scheme("RN", 12, 10), "fails to converge"),
    Row("cifar", Scheme("float"), "the reference"),
    Row("cifar", Scheme("SR", 12), "some degradation"),
    Row("cifar", Scheme("RN", 12), "fails to converge"),
    Row("cifar", Scheme("SR", 12), "repaired by <4,16>", Scheme("SR", 16, word=20)),
)
