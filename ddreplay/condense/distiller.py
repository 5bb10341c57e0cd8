"""The one loop: images descend an objective under a stream of networks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import mixes_images
from ddreplay.condense.checkpoint import Checkpoint, fingerprint
from ddreplay.condense.class_sweep import can_sweep, sweep_classes
from ddreplay.condense.condenser import OnStep
from ddreplay.condense.image_count import ChooseCount, Validated
from ddreplay.condense.optimizer import SGD
from ddreplay.condense.provenance import describe, provenance
from ddreplay.data.chunks import forward_chunk
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.networks import NetworkSource, Setting
from ddreplay.networks.bank import Bank, Banked
from ddreplay.networks.real_batches import Draw, Uniform
from ddreplay.objectives.term import Look, Side, Statistic, Sum, Term, pick_classes
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.form import Form, Parameterize
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.pixels import Pixels
from ddreplay.randomness import Random
from ddreplay.storage.budget import check_budget, fit, total_bytes
from ddreplay.storage.codecs import Codec, uint8
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["Distiller"]

_SIZES = 2**60  # added to the seed where the objective's own parameters are drawn


@dataclass(frozen=True)
class Distiller:
    """S* = argmin_S E_network E_augmentation [ objective(network; a(real), a(decode(S))) ].

    Attributes:
        networks: which networks look (`ddreplay.networks`).
        objective: what must agree (`ddreplay.objectives`).
        augment: what both sides undergo, drawn once for both.
        parameterize: how stored numbers become images.
        optimizer: from parameter groups to a torch optimiser of the stored numbers.
        steps: image updates, or a function of images per class (`Rounds`).
        batch_real: real images per class and step.
        draw: which real images (`ddreplay.networks.real_batches`): uniformly, or those that represent their class.
        step_per: ``"set"``: one image step for all classes; ``"class"``: one per class, in order (IDM's released code).
        codec: how the result is stored.
        compile: run networks through ``torch.compile``: embeddings, their gradients to the images, and the training of a queue's
            networks; not what is differentiated twice, nor networks whose maps a term reads.
        choose: with a budget in bytes, how many images it is spent on; their quality follows, and the images are condensed through
            the codec (`ddreplay.parameterize.coded`).
        name: of the method, for provenance.
    """

    networks: NetworkSource
    objective: Term
    augment: Augment = Identity()
    parameterize: Parameterize = Pixels()
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer] = SGD()
    steps: int | Callable[[int], int] = 1000
    batch_real: int = 256
    draw: Draw = Uniform()
    step_per: Literal["set", "class"] = "set"
    codec: Codec = uint8()
    compile: bool = False
    name: str = "distiller"
    choose: ChooseCount = Validated()

    def __call__(
        self,
        pool: ClassPool,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
        seconds: float | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        on_step: OnStep | None = None,
    ) -> CondensedSet:
        """Condense a pool into ``images_per_class`` stored images of every class, or into as many bytes at most.

        A class with no more real images than that keeps them as they are. The caller's random state is untouched.

        Args:
            bytes_per_class, max_bytes: of the set, instead of ``images_per_class``; never exceeded.
            seconds: stop after this long; the number of steps done is recorded.
            checkpoint: a file that holds the state every ``checkpoint_every`` steps. Where it exists, the run goes on from it,
                with the same result as an uninterrupted one.
        Raises:
            ValueError: when the budget is below one image, or a checkpoint belongs to another run.
            FloatingPointError: when the images diverge.
        """
        check_budget(images_per_class, bytes_per_class, max_bytes)
        started = time.perf_counter()
        if images_per_class is None:
            total = total_bytes(pool.classes, bytes_per_class, max_bytes)
            found = self._in_bytes(pool, total, seed, seconds, checkpoint, checkpoint_every, on_step)
            more = {"max_bytes": total, "seconds": round(time.perf_counter() - started, 3)}
            return replace(found, provenance={**found.provenance, **more})
        small = [k for k, n in enumerate(pool.counts) if n <= images_per_class]
        large = [k for k in range(pool.classes) if k not in small]
        parts, done, learned = [], 0, {}
        if large:
            run = _Run(self, pool.select(large), images_per_class, seed)
            identity_of_run = {
                **describe(self),
                "images_per_class": images_per_class,
                "seed": seed,
                "pool": fingerprint(pool),
            }
            run.go(Checkpoint(checkpoint, checkpoint_every, identity_of_run), seconds, on_step)
            parts.append(run.part())
            done, learned = run.step, run.objective.learned()
        if small:
            kept = pool.select(small)
            parts.append(Part.of_images(kept, [kept.of_class(k) for k in range(kept.classes)], uint8()))
        extras = {"learned": learned} if learned else {}
        return CondensedSet(
            tuple(parts), provenance(self, pool, images_per_class, seed, started, steps_done=done, **extras)
        )

    def _in_bytes(self, pool: ClassPool, total: int, seed: int, *how: Any) -> CondensedSet:
        form = self.parameterize
        codec = form.codec if isinstance(form, (Coded, Frequency)) else self.codec
        per_class = total / pool.classes
        method = replace(self, codec=codec)
        if len(codec.qualities()) > 1:
            inner = form if isinstance(form, Coded) else Coded(codec, form)
            method = replace(method, parameterize=replace(inner, bytes_per_class=per_class))

        def trial(kept: ClassPool, n: int) -> CondensedSet:
            return fit(_shorter(method)(kept, n, seed=seed), per_class * kept.classes, codec)

        n = self.choose(pool, codec, per_class, trial, seed)
        names = ("seconds", "checkpoint", "checkpoint_every", "on_step")
        return fit(method(pool, n, seed=seed, **dict(zip(names, how, strict=True))), total, codec)

    def plus(self, term: Term, weight: float = 1.0) -> Distiller:
        """The same method with one more term in its objective."""
        return replace(self, objective=Sum([self.objective, term], [1.0, weight]))


def _shorter(method: Distiller) -> Distiller:
    """An eighth of the steps, and a quarter of a bank: enough to tell numbers of images apart."""
    steps, networks = method.steps, method.networks
    fewer = max(1, steps // 8) if isinstance(steps, int) else lambda n: max(1, steps(n) // 8)
    source = networks.source if isinstance(networks, Bank) else networks
    if isinstance(source, Banked):
        source = replace(source, size=max(1, source.size // 4))
    return replace(method, steps=fewer, networks=source, compile=False)  # every number of images would compile anew


class _Run:
    """One condensation at work: everything that changes between steps."""

    def __init__(self, method: Distiller, pool: ClassPool, images_per_class: int, seed: int) -> None:
        self.method, self.pool, self.step = method, pool, 0
        self.steps = method.steps if isinstance(method.steps, int) else method.steps(images_per_class)
        self.random = Random(seed, pool.device)
        self.form: Form = method.parameterize(pool, images_per_class, self.random).to(pool.device)
        self.objective = copy.deepcopy(method.objective)
        self.chunk = forward_chunk(pool.shape, pool.device)
        self.drawer = method.draw.start(pool)
        setting = Setting(
            pool=pool,
            objective=self.objective,
            augment=method.augment,
            batch_real=method.batch_real,
            random=self.random,
            syn=self.syn,
            images_per_class=images_per_class,
            chunk=self.chunk,
            drawer=self.drawer,
            compile=method.compile,
        )
        self._prepare(setting, Random(seed + _SIZES, pool.device))
        stored = {"params": list(self.form.parameters()), "stored_per_class": self.form.stored_per_class}
        self.optimizer = method.optimizer([stored, *self.objective.parameter_groups()])
        self.networks = method.networks.start(setting)

    def _prepare(self, setting: Setting, random: Random) -> None:
        """Parameters of the objective whose size depends on the networks; what is drawn for them moves no other draw."""
        if self.objective.sized:
            look = setting.look(setting.network(self.method.networks.net, random), random)
            with random.scope(), torch.no_grad():
                self.objective.prepare(Side(look, self.syn().x, range(self.pool.classes)))
        self.objective.to(self.pool.device)

    def syn(self) -> Batch:
        with torch.no_grad():
            return Batch(self.form.decode().detach().clone(), self.pool.positions(self.form.per_class))

    def go(self, checkpoint: Checkpoint, seconds: float | None, on_step: OnStep | None) -> None:
        started = time.perf_counter()
        checkpoint.restore(self)
        while self.step < self.steps and (seconds is None or time.perf_counter() - started < seconds):
            look, statistic = self.networks.show()
            loss = (
                self._step_by_class(look, statistic) if self.method.step_per == "class" else self._step(look, statistic)
            )
            self.networks.moved()
            self.step += 1
            checkpoint.keep(self)
            if on_step is not None:
                on_step(self.step, loss)
        if not all(bool(torch.isfinite(p).all()) for p in self.form.parameters()):
            raise FloatingPointError(f"{self.method.name} diverged: the images are not finite; lower the learning rate")

    def _step(self, look: Look, statistic: Statistic) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._distance(look, statistic)
        loss.backward(inputs=[p for group in self.optimizer.param_groups for p in group["params"]])
        self.optimizer.step()
        return loss.detach()

    def _distance(self, look: Look, statistic: Statistic) -> Tensor:
        syn = Side(look, self.form.decode(), range(self.pool.classes), chunk=self.chunk)
        return self.objective.distance(statistic, syn)

    def _step_by_class(self, look: Look, statistic: Statistic) -> Tensor:
        if self.form.by_class and self.objective.additive and can_sweep(self.optimizer) and not mixes_images(look.net):
            return sweep_classes(self.optimizer, self.pool.classes, lambda: self._distance(look, statistic))
        total = torch.zeros((), device=self.pool.device)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for k in range(self.pool.classes):
            self.optimizer.zero_grad(set_to_none=True)
            images = self.form.decode().unflatten(0, (self.pool.classes, -1))[k]
            loss = self.objective.distance(pick_classes(statistic, [k]), Side(look, images, [k], chunk=self.chunk))
            loss.backward(inputs=parameters)
            self.optimizer.step()
            total += loss.detach()
        return total

    def part(self) -> Part:
        codec = self.form.storage(self.method.codec, self.pool)
        stored = self.form.pack(codec, self.pool)
        counts = (self.form.stored_per_class,) * self.pool.classes
        soft = self.objective.soft_labels()
        labels = None if soft is None else soft.detach().float().cpu()
        return Part.of_stored(self.pool, stored, codec, counts, layout=self.form.layout(), soft_labels=labels)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "form": self.form.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "networks": self.networks.state_dict(),
            "draw": self.drawer.state_dict(),
            "random": self.random.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.form.load_state_dict(state["form"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.networks.load_state_dict(state["networks"])
        self.drawer.load_state_dict(state["draw"])
        self.random.load_state_dict(state["random"])
