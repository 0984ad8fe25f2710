"""Published schemes of training, as policies: what they decide is which precision a layer works in, and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from ..emulator.datapath import Datapath
from ..emulator.errors import HalfulpError
from .precision import Clock, Policy, Precision, Static


@dataclass
class Cyclic(Policy):
    """Cyclic precision training (Fu et al., ICLR 2021, arXiv 2101.09868, eq. 1): the bits of weights and activations
    rise along half a cosine from ``low`` to ``high``, ``cycles`` times in a run; gradients keep their precision.

    Assumptions: numbers of B bits are ⟨3, B - 3⟩ fixed point, saturating, so that no scale is to be found; gradients
    are bfloat16 (the paper's are of 6 or 8 bits with a scale a tensor), multiplied by those same weights and
    activations; sums are exact, in 48 bits, on the way forward, binary32 on the way back, and handed out in binary32;
    weights are kept, and updated, in binary32. Activations are kept in binary32, too, and converted for each product.
    An epoch is tested in the precision of its last step.
    """

    low: int = 4
    high: int = 8
    cycles: int = 8
    goes_by_length: ClassVar[bool] = True  # type: ignore[misc]

    def __post_init__(self) -> None:
        if not 4 <= self.low <= self.high <= 16 or self.cycles < 1:
            raise HalfulpError(
                f"precision goes from 4 bits at least to 16 at most, in one cycle or more, not from {self.low} to"
                f" {self.high} in {self.cycles}."
            )

    def bits(self, clock: Clock) -> int:
        """Of weights and activations, at a step."""
        phase = clock.step * self.cycles % clock.steps / clock.steps
        return round(self.low + 0.5 * (self.high - self.low) * (1 - math.cos(math.pi * phase)))

    def at(self, layer: str, clock: Clock) -> Precision:
        return _of_bits(self.bits(clock))

    def describe(self) -> dict[str, Any]:
        return {"cyclic": {"low": self.low, "high": self.high, "cycles": self.cycles}}


@lru_cache(maxsize=32)
def _of_bits(bits: int) -> Precision:
    fraction = bits - 3
    forward = Datapath.parse(f"q3.{fraction}/q{48 - 2 * fraction}.{2 * fraction}/fp32")
    grad_input, grad_weight = (Datapath.parse(f"{ab}/fp32") for ab in (f"bf16*q3.{fraction}", f"q3.{fraction}*bf16"))
    return Precision(forward, grad_input, grad_weight, Datapath.parse("fp32"))


def deepseek() -> Static:
    """Products in fp8 as DeepSeek-V3 has them (arXiv 2412.19437, §3.3): operands in e4m3, a scale for each 128 that
    are summed together; sums of 128 by tensor cores that keep 14 bits, promoted to binary32.

    Not theirs: weights are bfloat16, updated with stochastic rounding (theirs are binary32, moments bfloat16); scales
    are powers of two; those of weights are for 128 x 1, not 128 x 128, and biases are among them; embeddings, attention
    and the last layer are in fp8, too, which they keep in bfloat16 or binary32; activations and gradients are stored in
    binary32, and cut into blocks anew for each product, where theirs are kept in fp8 or bfloat16. Assumed: tensor cores
    add 32 products at a time and cut off.
    """
    block = "e4m3fnx128+ue8m0+ceil"
    return Static(Precision.of(f"{block}/fp32:blocked128(e8m13@RTZ:fused32)", "fp32*fp32/bf16@SR16"))


#: Policies by name.
POLICIES: dict[str, Callable[[], Policy]] = {"cpt": Cyclic, "deepseek-fp8": deepseek}
