"""The one loop: images descend an objective under a stream of networks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from ddreplay.augment import Augment, Identity
from ddreplay.condense.condenser import Deadline, OnProgress, OnStep, OnTerms, default_codec
from ddreplay.condense.image_count import ByCodec, ChooseCount, CountQuestion
from ddreplay.condense.optimizer import SGD
from ddreplay.condense.provenance import describe, provenance
from ddreplay.condense.run import Classes, Run
from ddreplay.data.pool import ClassPool, concatenate
from ddreplay.networks import NetworkSource
from ddreplay.networks.bank import Bank, Banked
from ddreplay.networks.real_batches import Draw, Uniform
from ddreplay.objectives.term import Sum, Term
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.pixels import Pixels
from ddreplay.randomness import Random
from ddreplay.ranks import Ranks
from ddreplay.storage.budget import Budget
from ddreplay.storage.checkpoint import Checkpoint, fingerprint
from ddreplay.storage.codecs import Codec, codec_from_spec, uint8
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.decoders import Decoder, decoder_from_spec
from ddreplay.storage.fit import fit
from ddreplay.storage.part import Part

__all__ = ["Distiller"]

log = logging.getLogger(__name__)

CHOOSING = 0.5  # of the seconds there are, that trials of numbers of images may take at most


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
        codec: how the result is stored; ``None``: uint8 for a budget in images, AVIF for one in bytes (`default_codec`).
        compile: run networks through ``torch.compile``: embeddings, their gradients to the images, and the training of a queue's
            networks; not what is differentiated twice, nor networks whose maps a term reads.
        choose: with a budget in bytes, how many images it is spent on; their quality follows, and the images are condensed through
            the codec (`ddreplay.parameterize.Coded`).
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
    codec: Codec | None = None
    compile: bool = False
    name: str = "distiller"
    choose: ChooseCount = ByCodec()

    takes: ClassVar[frozenset[str]] = frozenset(
        ("seconds", "checkpoint", "checkpoint_every", "on_step", "on_terms", "on_progress", "beside", "ranks")
    )

    def __post_init__(self) -> None:
        if isinstance(self.steps, int) and self.steps < 1:
            raise ValueError(f"steps of {self.name} must be at least 1, got {self.steps}")
        if self.batch_real < 1:
            raise ValueError(f"batch_real of {self.name} must be at least 1 image per class, got {self.batch_real}")
        if self.step_per not in ("set", "class"):
            raise ValueError(f"step_per of {self.name} must be 'set' or 'class', got {self.step_per!r}")

    def __call__(
        self,
        pool: ClassPool,
        budget: Budget | int,
        *,
        seed: int = 0,
        seconds: float | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        on_step: OnStep | None = None,
        on_terms: OnTerms | None = None,
        on_progress: OnProgress | None = None,
        beside: ClassPool | None = None,
        ranks: Ranks | None = None,
    ) -> CondensedSet:
        """Condense a pool within a budget: a `Budget`, or so many stored images of every class.

        A class with no more real images than its share keeps them as they are, and networks know of it. The caller's random state is
        untouched.

        Args:
            seconds: after so long choosing a number of images, making networks and image steps come to an end; what was cut is in
                the provenance.
            checkpoint: a file that holds the state every ``checkpoint_every`` steps, and when the process is told to stop (SIGINT,
                SIGTERM). Where it exists, the run goes on from it, with the same result as an uninterrupted one.
            on_step: is told of every image step and its loss.
            on_terms: is told of every image step and what each term of its objective came to, where that is a sum.
            on_progress: is told how far every phase is.
            beside: other classes that are known; looked at where the pool has one class alone, which then is told apart from them.
            ranks: the processes that share the work, class by class (`ddreplay.ranks.Ranks`). Each is given the same arguments and ends
                with the same set, that of one process but for float32's rounding. The first alone writes the checkpoint.
        Raises:
            TypeError, ValueError: when the budget is none, or below one image; when one class alone is to be told apart from
                nothing; when a checkpoint is damaged or belongs to another run; when the set could not be read back from a file.
            AlreadyInUse: when another run is writing the checkpoint.
            FloatingPointError: when the images diverge.
            StopRequested: when the process was told to stop, after the state was kept.
            RuntimeError: when the processes of ``ranks`` turn out to have drawn different numbers.
        """
        budget, deadline = Budget.of(budget), Deadline(seconds)
        check_readable(self, pool)
        run = self._identity(budget, seed, pool, beside) if checkpoint else {}
        more: dict[str, Any] = {"deadline": deadline, "on_progress": on_progress, "beside": beside}
        more |= {"on_step": on_step, "on_terms": on_terms}
        if ranks is not None:
            self._check_ranks(ranks, seconds)
            more["ranks"] = ranks
        path = checkpoint if ranks is None or ranks.rank == 0 else None
        with Checkpoint(path, checkpoint_every, run, pool.device).opened() as file:
            if ranks is not None:
                file.share(ranks)
            if budget.in_bytes:
                return self._within_bytes(pool, budget, seed, file=file, **more)
            return self._condense(pool, int(budget.share(pool.classes)), seed, file=file, **more)

    def _check_ranks(self, ranks: Ranks, seconds: float | None) -> None:
        if not self.objective.additive:
            raise ValueError(
                f"ranks share a set class by class, and {self.name} compares all classes together; condense it in one process, or take a "
                "method whose distance is a sum over classes, such as dm"
            )
        if self.step_per == "class":
            raise ValueError(
                f"ranks step all classes at once, and {self.name} steps one after the other; give step_per='set'"
            )
        if seconds is not None:
            raise ValueError(f"ranks would run out of time at different steps; leave out seconds={seconds}")

    def _identity(self, budget: Budget, seed: int, pool: ClassPool, beside: ClassPool | None) -> dict[str, Any]:
        """What makes a run this one."""
        others = {} if beside is None else {"beside": fingerprint(beside)}
        return {**describe(self), "budget": str(budget), "seed": seed, "pool": fingerprint(pool), **others}

    def _within_bytes(
        self,
        pool: ClassPool,
        budget: Budget,
        seed: int,
        *,
        file: Checkpoint,
        deadline: Deadline,
        on_step: OnStep | None,
        on_terms: OnTerms | None,
        on_progress: OnProgress | None,
        beside: ClassPool | None,
        ranks: Ranks | None = None,
    ) -> CondensedSet:
        method, codec, total = self._through_codec(pool, budget), self._codec(budget, pool), budget.total(pool.classes)
        count = file.images_per_class or method._count(pool, budget, codec, seed, deadline, on_progress, beside, ranks)
        more: dict[str, Any] = {"deadline": deadline, "file": file, "on_progress": on_progress}
        more |= {"on_step": on_step, "on_terms": on_terms, "ranks": ranks}
        made = method._condense(pool, count, seed, beside=beside, **more)
        found = fit(made, total, codec)
        spent: dict[str, Any] = {"max_bytes": total, "seconds": round(deadline.spent, 3)}
        if found.stored_images < made.stored_images:
            spent["left_out"] = made.stored_images - found.stored_images
            log.warning(
                "%d of %d condensed images do not fit into %g bytes at the codec's lowest quality and are left out of what was "
                "condensed together; ask for fewer images or a codec of fewer bytes",
                spent["left_out"],
                made.stored_images,
                total,
            )
        return replace(found, provenance={**found.provenance, **spent})

    def _condense(
        self,
        pool: ClassPool,
        images_per_class: int,
        seed: int,
        *,
        deadline: Deadline,
        beside: ClassPool | None = None,
        file: Checkpoint | None = None,
        on_step: OnStep | None = None,
        on_terms: OnTerms | None = None,
        on_progress: OnProgress | None = None,
        ranks: Ranks | None = None,
    ) -> CondensedSet:
        started = deadline.started
        small = [k for k, n in enumerate(pool.distinct().counts) if n <= images_per_class]
        parts, done, learned = [], 0, {}
        if len(small) < pool.classes:
            classes = _known(pool, small, beside)
            self._check_tellable(classes)
            run = Run(self, classes, images_per_class, seed, deadline, on_progress, ranks)
            run.go(file or Checkpoint(None, 1, {}), on_step, on_terms)
            parts.append(run.part(self.codec or uint8()))
            done, learned = run.step, run.objective.learned()
        if small:
            kept = pool.select(small).distinct()
            parts.append(Part.of_images(kept, [kept.of_class(k) for k in range(kept.classes)], uint8()))
        extras: dict[str, Any] = {"learned": learned} if learned else {}
        if deadline.cut:
            extras["cut"] = list(deadline.cut)
        about = provenance(self, pool, images_per_class, seed, started, steps_done=done, **extras)
        return CondensedSet(tuple(parts), about)

    def _check_tellable(self, classes: Classes) -> None:
        if self.objective.discriminative and classes.pool.classes < 2:
            raise ValueError(
                f"{self.name} learns what tells classes apart, and class {classes.pool.class_names[0]} is alone; give it another "
                "class (beside=, or one in the pool), or take a method that matches means, such as dm"
            )

    def _codec(self, budget: Budget, pool: ClassPool) -> Codec:
        """The family that stores the set."""
        if isinstance(self.parameterize, (Coded, Frequency)):
            return self.parameterize.codec
        return self.codec or default_codec(budget, pool.shape[0])

    def _through_codec(self, pool: ClassPool, budget: Budget) -> Distiller:
        """The same method, whose images are seen through the codec that stores them within the budget."""
        codec, form = self._codec(budget, pool), self.parameterize
        method = replace(self, codec=codec)
        if len(codec.qualities()) == 1:
            return method
        inner = form if isinstance(form, Coded) else Coded(codec, form)
        return replace(method, parameterize=replace(inner, bytes_per_class=budget.share(pool.classes)))

    def _count(
        self,
        pool: ClassPool,
        budget: Budget,
        codec: Codec,
        seed: int,
        deadline: Deadline,
        on_progress: OnProgress | None,
        beside: ClassPool | None,
        ranks: Ranks | None,
    ) -> int:
        """How many images of every class the budget is spent on."""
        share, due = budget.of_each(pool.classes), deadline.part(CHOOSING)
        quick = self._quick()

        def trial(kept: ClassPool, n: int) -> CondensedSet:
            made = quick._condense(kept, n, seed, deadline=replace(due, cut=[]), beside=beside, ranks=ranks)
            return fit(made, share.total(kept.classes), codec)

        def extra(n: int) -> int:
            form = self.parameterize(pool.first(1), n, Random(seed, pool.device))
            return sum(tensor.nbytes for tensor in form.beside().values())

        plain = extra(1) == 0
        asked = CountQuestion(
            pool, codec, share, trial, seed, (lambda n: 0) if plain else extra, deadline=due, on_progress=on_progress
        )
        return self.choose(asked)

    def _quick(self) -> Distiller:
        """An eighth of the steps, and a quarter of a bank: enough to tell numbers of images apart."""
        steps, networks = self.steps, self.networks
        fewer = max(1, steps // 8) if isinstance(steps, int) else lambda n: max(1, steps(n) // 8)
        source = networks.source if isinstance(networks, Bank) else networks
        if isinstance(source, Banked):
            source = source.fraction(4)
        return replace(self, steps=fewer, networks=source, compile=False)  # every number of images would compile anew

    def plus(self, term: Term, weight: float = 1.0) -> Distiller:
        """The same method with one more term in its objective."""
        return replace(self, objective=Sum([self.objective, term], [1.0, weight]))

    def stored_by(self, codec: Codec) -> Distiller:
        """The same method with another codec."""
        return replace(self, codec=codec)


def _known(pool: ClassPool, small: list[int], beside: ClassPool | None) -> Classes:
    """All classes that networks know: those of the pool, and where it has one alone, those beside it."""
    learned = [int(pool.class_ids[k]) for k in range(pool.classes) if k not in small]
    if pool.classes < 2 and beside is not None:
        others = [k for k, c in enumerate(beside.class_ids.tolist()) if c not in learned]
        pool = concatenate([pool, beside.select(others)]) if others else pool
    return Classes(pool, tuple(k for k, c in enumerate(pool.class_ids.tolist()) if c in learned))


def check_readable(method: Distiller, pool: ClassPool) -> None:
    """Refuse what could not be read back from a file, before anything is condensed.

    Raises:
        ValueError: when codec or decoder do not come back from what a file says of them.
    """
    form = method.parameterize(pool.first(1), 1, Random(0, pool.device))
    codec, decoder = form.storage(method.codec or uint8()), form.decoder()
    kinds: tuple[type[Decoder], ...] = (type(decoder),)
    for part, read in (
        (codec, lambda spec: codec_from_spec(spec, [type(codec)])),
        (decoder, lambda spec: decoder_from_spec(spec, kinds)),
    ):
        try:
            back = read(json.loads(json.dumps(part.spec())))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{type(part).__name__} could not be read back from a file: {error}") from error
        if back != part:
            raise ValueError(
                f"{type(part).__name__} could not be read back from a file: {part!r} comes back as {back!r}; make it a frozen "
                "dataclass whose fields are JSON"
            )
