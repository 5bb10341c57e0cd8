"""One condensation at work: everything that changes between steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ddreplay.backbones import draws_itself, mixes_images
from ddreplay.condense.class_sweep import can_sweep, sweep_classes
from ddreplay.condense.condenser import Deadline, OnProgress, OnStep, OnTerms, Progress
from ddreplay.data.chunks import forward_chunk, in_memory
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.networks.source import Context
from ddreplay.objectives.side import Look, Side
from ddreplay.objectives.term import Shared, Statistic, pick_classes
from ddreplay.parameterize.form import Form
from ddreplay.randomness import Random
from ddreplay.ranks import Ranks
from ddreplay.storage.checkpoint import Checkpoint
from ddreplay.storage.codecs import Codec
from ddreplay.storage.part import Part

if TYPE_CHECKING:
    from ddreplay.condense.distiller import Distiller

__all__ = ["Classes", "Run"]

Found = TypeVar("Found")

_SIZES = 2**60  # added to the seed where the objective's own parameters are drawn


@dataclass(frozen=True)
class Classes:
    """Which classes are learned, among all that networks know.

    pool: all known classes. learned: the positions of those whose images are learned. The others are held: their real images stand
    on both sides, so that networks know what there is to be told apart from.
    """

    pool: ClassPool
    learned: tuple[int, ...]

    @property
    def all_learned(self) -> bool:
        return len(self.learned) == self.pool.classes

    def learned_pool(self) -> ClassPool:
        """The real images of the learned classes."""
        return self.pool if self.all_learned else self.pool.select(self.learned)

    def with_held(self, images: Tensor, per_class: int) -> Tensor:
        """Images of the learned classes, class-major -> of all classes: ``per_class`` real ones of a held class, repeated at need."""
        if self.all_learned:
            return images
        blocks = dict(zip(self.learned, images.split(per_class), strict=True))
        held = torch.arange(per_class, device=images.device)
        return torch.cat(
            [
                blocks[k] if k in blocks else self.pool.of_class(k)[held % self.pool.counts[k]].to(images)
                for k in range(self.pool.classes)
            ]
        )


class Run:
    """Images of the learned classes, descending a method's objective."""

    def __init__(
        self,
        method: Distiller,
        classes: Classes,
        images_per_class: int,
        seed: int,
        deadline: Deadline,
        on_progress: OnProgress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks
        self.method, self.classes, self.images_per_class = method, classes, images_per_class
        self.deadline, self.on_progress, self.step = deadline, on_progress, 0
        self.shares: dict[str, Tensor] = {}  # what each term came to in the last step
        pool = self.pool = classes.learned_pool()
        self.diverged = torch.zeros((), dtype=torch.int64, device=pool.device)
        self.steps = method.steps if isinstance(method.steps, int) else method.steps(images_per_class)
        self.random = Random(seed, pool.device)
        self.form: Form = method.parameterize(pool, images_per_class, self.random).to(pool.device)
        self.objective = copy.deepcopy(method.objective)
        # what held classes have at stake is constant where each class's distance is its own and no label is in it
        alone = classes.all_learned or (self.objective.additive and not self.objective.discriminative)
        self.compared = classes.learned if alone else tuple(range(classes.pool.classes))
        self.own = self._share(len(self.compared))
        self.chunk = forward_chunk(pool.shape, pool.device)
        real = pool if alone else classes.pool
        self.drawer = method.draw.start(real)
        context = Context(
            pool=classes.pool,
            objective=self.objective,
            augment=method.augment,
            batch_real=method.batch_real,
            random=self.random,
            syn=self.syn,
            images_per_class=images_per_class,
            chunk=self.chunk,
            drawer=self.drawer,
            compile=method.compile,
            positions=self.compared,
            real=real,
            own=None if ranks is None else self.own,
            stop=deadline.over,
            on_network=None if on_progress is None else self._tell_networks,
        )
        self._prepare(context, Random(seed + _SIZES, pool.device))
        stored = {"params": list(self.form.parameters()), "stored_per_class": self.form.stored_per_class}
        self.optimizer = method.optimizer([stored, *self.objective.parameter_groups()])
        self.networks = method.networks.start(context)

    def _share(self, blocks: int) -> tuple[int, ...]:
        """Of so many blocks of classes, those that this process compares.

        Raises:
            ValueError: when there are more processes than classes.
        """
        if self.ranks is None:
            return tuple(range(blocks))
        if self.ranks.size > blocks:
            raise ValueError(f"{self.ranks.size} processes share {blocks} classes; start at most as many as classes")
        return tuple(self.ranks.share(range(blocks)))

    def _tell_networks(self, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress("bank", done, total))

    def _prepare(self, context: Context, random: Random) -> None:
        """Parameters of the objective whose size depends on the networks; what is drawn for them moves no other draw."""
        if self.objective.sized:
            look = context.look(context.network(self.method.networks.net, random), random)
            with random.scope(), torch.no_grad():
                images = self._compared_images(self.form.decode().detach().clone())
                self.objective.prepare(Side(look, images, self.compared))
        self.objective.to(self.pool.device)

    def syn(self) -> Batch:
        """The images of all known classes as they are now, class-major, without a graph; y are positions, or learned labels."""
        with torch.no_grad():
            images = self.classes.with_held(self.form.decode().detach().clone(), self.form.per_class)
            soft = self.objective.soft_labels()
            if soft is not None and len(soft) == len(images):
                return Batch(images, soft.detach())
            return Batch(images, self.classes.pool.positions(self.form.per_class))

    def go(self, checkpoint: Checkpoint, on_step: OnStep | None, on_terms: OnTerms | None = None) -> None:
        """All steps, or as many as there is time for.

        Raises:
            FloatingPointError: when what is learned diverges; says in which step. The checkpoint keeps what was written before.
            StopRequested: when the process was told to stop and the state is kept.
        """
        checkpoint.restore(self)
        with checkpoint.guard():
            while self.step < self.steps and not self.deadline.over():
                look, statistic = self.networks.show()
                if self.deadline.over():  # the network may have been cut short, which a resumed run would not repeat
                    break
                by_class = self.method.step_per == "class"
                loss = self._step_by_class(look, statistic) if by_class else self._step(look, statistic)
                self.networks.moved()
                self.step += 1
                self._note_divergence()
                if self.pool.device.type == "cpu" or checkpoint.due(self):  # elsewhere, asking makes the host wait
                    self._check_finite()
                checkpoint.keep(self, self.images_per_class)
                if on_step is not None:
                    on_step(self.step, loss)
                if on_terms is not None and self.shares:
                    on_terms(self.step, self.shares)
                if self.on_progress is not None:
                    self.on_progress(Progress("steps", self.step, self.steps))
            self._note_divergence()
            self._check_finite()
            if self.ranks is not None:
                self.ranks.check_same(self.random.cpu.get_state().tolist(), "random numbers")
            if self.step < self.steps:
                self.deadline.cut.append(f"image steps: {self.step} of {self.steps}")
            elif self.steps:
                checkpoint.keep(self, self.images_per_class, finished=True)

    def _note_divergence(self) -> None:
        """Keep the number of the first step after which something learned is not finite."""
        finite = torch.stack([torch.isfinite(p).all() for p in self._parameters()]).all()
        now = torch.full_like(self.diverged, max(1, self.step))
        self.diverged = torch.where(finite | (self.diverged > 0), self.diverged, now)

    def _check_finite(self) -> None:
        step = int(self.diverged)
        if step:
            raise FloatingPointError(
                f"{self.method.name} diverged in step {step} of {self.steps}: what it learns is not finite; lower the learning rate"
            )

    def _compared_images(self, images: Tensor) -> Tensor:
        return images if self.compared == self.classes.learned else self.classes.with_held(images, self.form.per_class)

    def _step(self, look: Look, statistic: Statistic) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        images, positions = self._compared_images(self.form.decode()), self.compared
        if self.ranks is not None:
            _check_splits(look.net, statistic, self.method.name)
            images = images.unflatten(0, (len(positions), -1))[list(self.own)].flatten(0, 1)
            positions = tuple(positions[k] for k in self.own)
        loss, gradient = self._compare(look, statistic, images, positions)
        if images.requires_grad:  # a method may learn labels alone
            images.backward(gradient)
        if self.ranks is not None:
            loss = self._of_all(self.ranks, self._parameters(), loss)
        self.optimizer.step()
        return loss

    def _compare(
        self, look: Look, statistic: Statistic, images: Tensor, positions: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The loss and its gradient to the images; the objective's own parameters have theirs. In smaller pieces where memory asks."""
        stored, back = {id(p) for p in self.form.parameters()}, look.mark()
        own = [p for p in self._parameters() if id(p) not in stored]

        def attempt(chunk: int) -> tuple[Tensor, Tensor]:
            back()
            for p in own:
                p.grad = None
            leaf = images.detach().requires_grad_(images.requires_grad)
            side = Side(look, leaf, positions, chunk=chunk)
            loss = self.objective.distance(statistic, side)
            self.shares = side.shares
            loss.backward(inputs=[leaf, *own] if leaf.requires_grad else own)
            return loss.detach(), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad

        return self._fitting(look.net, attempt)

    def _fitting(self, net: nn.Module, attempt: Callable[[int], Found]) -> Found:
        """What an attempt gives with as many images at once as the memory allows."""
        if mixes_images(net):  # all at once, or not at all
            return attempt(self.chunk)
        found, self.chunk = in_memory(attempt, self.chunk, self.pool.device)
        return found

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _of_all(self, ranks: Ranks, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Every parameter's gradient, the loss and its shares are those of all processes together."""
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        found = iter(ranks.add([*own, loss, *self.shares.values()]))
        for p in parameters:
            p.grad = next(found)
        loss = next(found)
        self.shares = dict(zip(self.shares, found, strict=True))
        return loss

    def _step_by_class(self, look: Look, statistic: Statistic) -> Tensor:
        learned = self.classes.learned
        blocks = [self.compared.index(k) for k in learned]
        if self.form.by_class and self.objective.additive and can_sweep(self.optimizer) and not mixes_images(look.net):
            own = statistic if self.compared == learned else pick_classes(statistic, blocks)

            return sweep_classes(
                self.optimizer, len(learned), lambda: self._descent(look, own, self.form.decode, learned)
            )
        total = torch.zeros((), device=self.pool.device)
        shares: dict[str, Tensor] = {}
        for k, (position, block) in enumerate(zip(learned, blocks, strict=True)):
            own = pick_classes(statistic, [block])
            total += self._descent(look, own, lambda k=k: self._decoded(k), [position])  # type: ignore[misc]
            self.optimizer.step()
            shares = {name: value + shares.get(name, 0) for name, value in self.shares.items()}
        self.shares = shares
        return total

    def _decoded(self, k: int) -> Tensor:
        """The images of one learned class."""
        images: Tensor = self.form.decode().unflatten(0, (len(self.classes.learned), -1))[k]
        return images

    def _descent(
        self, look: Look, statistic: Statistic, images: Callable[[], Tensor], positions: Sequence[int]
    ) -> Tensor:
        """The loss of some classes, whose gradient every parameter then has. In smaller pieces where memory asks."""
        parameters, back = self._parameters(), look.mark()

        def attempt(chunk: int) -> Tensor:
            back()
            self.optimizer.zero_grad(set_to_none=True)
            side = Side(look, images(), positions, chunk=chunk)
            loss = self.objective.distance(statistic, side)
            loss.backward(inputs=parameters)
            self.shares = side.shares
            return loss.detach()

        return self._fitting(look.net, attempt)

    def part(self, codec: Codec) -> Part:
        """What is stored of the learned classes; ``codec``: the method's, where the form has none of its own."""
        return Part.of_images(
            self.pool,
            blocks_of(self.form),
            self.form.storage(codec),
            self.form.max_bytes,
            decoder=self.form.decoder(),
            beside=self.form.beside(),
            soft_labels=self._soft_labels(),
        )

    def _soft_labels(self) -> Tensor | None:
        """Of the learned classes' images, over the learned classes."""
        soft = self.objective.soft_labels()
        if soft is None:
            return None
        soft = soft.detach().float().cpu()
        if self.compared == self.classes.learned:
            return soft
        keep = list(self.classes.learned)
        own = torch.cat([soft.split(self.form.per_class)[k] for k in keep])[:, keep]
        return (
            own / own.sum(1, keepdim=True) if bool((own >= 0).all()) else own
        )  # targets of a regression are no shares

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


def _check_splits(net: nn.Module, statistic: Statistic, name: str) -> None:
    """Refuse what sees all classes together: networks that mix the images of a batch, and a real side that belongs to all of them.

    Raises:
        ValueError: naming the network or the method.
    """
    if mixes_images(net) or draws_itself(net):
        raise ValueError(
            f"ranks share a set class by class, and {type(net).__name__} mixes the images of a batch or draws for each (batch norm, "
            "dropout); condense in one process, or with a network of instance norms"
        )
    if _any_shared(statistic):
        raise ValueError(
            f"ranks share a set class by class, and {name} compares every class with all others; condense it in one process, or take dm"
        )


def _any_shared(statistic: Any) -> bool:
    return isinstance(statistic, Shared) or (
        isinstance(statistic, tuple) and any(_any_shared(part) for part in statistic)
    )


def blocks_of(form: Form) -> Sequence[Tensor]:
    """The stored images of every class."""
    images = form.images.detach()
    return images.split(form.stored_per_class) if form.stored_per_class else [images[:0]] * form.classes
