"""The empirical neural tangent kernel, and how fast it turns.

Reference: Fort et al., "Deep learning versus kernel learning: an empirical study of loss landscape geometry and the
time evolution of the neural tangent kernel", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from ddreplay.randomness import Random

__all__ = ["KernelVelocity", "image_kernel", "kernel_distance", "ntk", "parameter_jacobian", "projected_ntk"]


def parameter_jacobian(
    net: nn.Module, x: Float[Tensor, "n ..."], *, chunk: int = 16
) -> Float[Tensor, "n outputs parameters"]:
    """d f_o(x_i) / d theta, for every image and output; memory grows with n * outputs * parameters.

    Args:
        chunk: images differentiated together.
    Raises:
        ValueError: when batch normalisation is in training mode: an image's output then depends on its neighbours.
    """
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"layer {name!r} normalises over the batch: no image has its own Jacobian; call net.eval()"
            )
    parameters, buffers = _state(net)

    def outputs(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        out: Tensor = functional_call(net, (parameters, buffers), (image[None],))
        return out[0].flatten()

    one = vmap(jacrev(outputs), (None, 0))
    rows = []
    for images in torch.split(x.detach(), chunk):
        by_name = one(parameters, images)
        rows.append(torch.cat([j.flatten(2) for j in by_name.values()], 2))
    return torch.cat(rows)


def ntk(
    net: nn.Module, x: Float[Tensor, "n ..."], *, outputs: Literal["full", "trace"] = "full", chunk: int = 16
) -> Float[Tensor, "rows rows"]:
    """The empirical neural tangent kernel, exactly.

        K[(i, o), (j, p)] = < d f_o(x_i) / d theta, d f_p(x_j) / d theta >

    ``full``: all outputs, [n * outputs, n * outputs], image-major. ``trace``: summed over equal outputs o = p, [n, n].
    For networks whose Jacobian does not fit in memory see `projected_ntk`.
    """
    return _gram(parameter_jacobian(net, x, chunk=chunk), outputs)


def projected_ntk(
    net: nn.Module,
    x: Float[Tensor, "n ..."],
    *,
    directions: int = 256,
    seed: int = 0,
    outputs: Literal["full", "trace"] = "full",
) -> Float[Tensor, "rows rows"]:
    """An unbiased estimate of `ntk` from random directions in parameter space.

        K ~ 1/m sum_r (J v_r) (J v_r)^T        v_r ~ N(0, I),  m = directions

    One graph, then one backward pass a direction: no image's Jacobian is ever held. The standard
    deviation of an entry of the full kernel is sqrt((K_ii K_jj + K_ij^2) / m). The same seed gives the same directions:
    along a trajectory, use one seed, so that a kernel at rest has velocity 0. For many images, pass a sample of them.
    """
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    parameters, buffers = _state(net)
    leaves = {name: p.requires_grad_() for name, p in parameters.items()}
    random = Random(seed, x.device)
    columns = []
    with torch.enable_grad():
        out: Tensor = functional_call(net, (leaves, buffers), (x.detach(),)).flatten(1)
        # J^T u is linear in u, so its derivative along v by u is J v; the graph of J^T u is built once
        dual = torch.zeros_like(out, requires_grad=True)
        pulled = torch.autograd.grad(out, list(leaves.values()), dual, create_graph=True)
        for _ in range(directions):
            vs = [torch.randn(p.shape, generator=random.device, device=p.device, dtype=p.dtype) for p in pulled]
            along = torch.stack([(g * v).sum() for g, v in zip(pulled, vs, strict=True)]).sum()
            columns.append(torch.autograd.grad(along, dual, retain_graph=True)[0])
    return _gram(torch.stack(columns, 2) / directions**0.5, outputs)


def image_kernel(loss: Callable[[Tensor], Tensor], images: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """The kernel whose velocity DCC follows: the Gram matrix of a matching loss's Jacobian by synthetic image.

        K[i, j] = < d L / d s_i, d L / d s_j >

    Reference: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Sec. 3.3 and Fig. 4.
    """
    leaves = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(leaves), leaves)
    rows = gradient.flatten(1)
    return rows @ rows.T


def kernel_distance(first: Float[Tensor, "n n"], second: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """1 - <K, K'> / (|K| |K'|), Frobenius, in float64: 0 for kernels equal up to scale, at most 1 for Gram matrices.

    Raises:
        ValueError: when a kernel is zero and has no direction.
    """
    a, b = first.double(), second.double()
    scale = a.norm() * b.norm()
    if not bool(scale > 0):
        raise ValueError("a kernel of zeros or NaN has no direction; look at images whose gradient is not zero")
    # 1 - cos = |a/|a| - b/|b||^2 / 2, which keeps its digits where the kernels are nearly parallel
    distance: Tensor = (a / a.norm() - b / b.norm()).square().sum() / 2
    return distance


class KernelVelocity:
    """Kernel velocity along a run: the distance of each kernel to the last one seen, per unit of time.

        v(t) = kernel_distance(K(t - dt), K(t)) / dt

    Args:
        interval: dt, steps between two calls of `observe`.
    """

    def __init__(self, interval: float = 1.0) -> None:
        if interval <= 0:
            raise ValueError(f"interval must be positive, got {interval}")
        self.interval = interval
        self.velocities: list[float] = []
        self._last: Tensor | None = None

    def observe(self, kernel: Float[Tensor, "n n"]) -> float | None:
        """The velocity since the last kernel; None at the first."""
        last, self._last = self._last, kernel.detach().clone()
        if last is None:
            return None
        self.velocities.append(float(kernel_distance(last, kernel)) / self.interval)
        return self.velocities[-1]


def _state(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    # buffers are copies: a look must not move a network's running statistics
    return parameters, {name: b.detach().clone() for name, b in net.named_buffers()}


def _gram(
    jacobian: Float[Tensor, "n outputs columns"], outputs: Literal["full", "trace"]
) -> Float[Tensor, "rows rows"]:
    rows = jacobian.flatten(0, 1) if outputs == "full" else jacobian.flatten(1)
    return rows @ rows.T
