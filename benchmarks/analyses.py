"""``python -m benchmarks analyses``: what condensed sets look like from inside networks, beside random real images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import analysis
from benchmarks.checks import at_least
from benchmarks.memories import memory_condenser, spelled
from benchmarks.report.figures import COLORS, save_figure
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.streams import memory_title
from benchmarks.report.tables import format_summary, settings_note, summary, text_table
from benchmarks.sets import read, training
from ddreplay import ClassPool, CondensedSet, Condenser, Distiller, names
from ddreplay.backbones import Probe, as_factory
from ddreplay.evaluation import Protocol, evaluate, train
from ddreplay.randomness import Random

__all__ = ["analyses", "table", "watched"]

MEASURES = ("alignment", "uniformity", "diversity", "style distance", "consistency", "CKA", "accuracy %")


@dataclass
class Velocities:
    """How fast two kernels turned from one image step to the next.

    images: of the matching loss's Jacobian by synthetic image (DCC, Fig. 4). weights: the neural tangent kernel of the networks that
    looked, on eight test images (Fort et al., 2020).
    """

    images: analysis.KernelVelocity = field(default_factory=analysis.KernelVelocity)
    weights: analysis.KernelVelocity = field(default_factory=analysis.KernelVelocity)


def analyses(
    dataset: str = "digits",
    methods: tuple[str, ...] = ("random", "dm", "ddm", "dc(loops=(10, 5), rounds=5)", "dcc(loops=(10, 5), rounds=5)"),
    images_per_class: int = 10,
    net: str = "convnet(width=32)",
    architectures: tuple[str, ...] = ("convnet(width=32)", "convnet(width=32, norm='batch')", "mlp"),
    networks: int = 3,
    seeds: int = 3,
    epochs: int = 100,
    reference_epochs: int = 10,
    train_per_class: int | None = None,
    test_per_class: int | None = 30,
    device: str = "cpu",
    out: Path = Path("results"),
) -> None:
    """Alignment, uniformity, diversity, style, consistency, CKA, kernel velocity and transfer of condensed sets.

    Features are those of networks trained on the real data. Alignment and uniformity: of a set's images (DCC, Fig. 6; lower is closer,
    lower is more even). Diversity: mean distance within a class. Style distance: of the first convolution's maps to those of real images
    (DDM, Fig. 1 and 4). Consistency: share of same-class images among the 10 nearest real ones (IDM, Fig. 4). CKA: mean over layers
    between a network trained on real data and one trained on the set, both shown the test images (MIM4DD, Fig. 5). Kernel velocity,
    in a picture: how fast the Gram matrix of the matching loss's Jacobian by synthetic image turns between image steps (DCC, Fig. 4),
    and beside it the neural tangent kernel of the networks that look (Fort et al., 2020), for methods that match gradients. Last,
    networks of other architectures trained on the same sets (DCC, Tab. 3).

    Args:
        dataset: as in ddreplay condense.
        methods: of ddreplay condense, with options if any; others are those for small machines.
        images_per_class: of the sets; at least 2.
        net: the backbone that condenses and looks.
        architectures: trained on the first set of every method; none: no table of them.
        networks: trained on the real data.
        seeds: sets of every method.
        epochs: of training on a set.
        reference_epochs: of training on the real data.
        train_per_class, test_per_class: use the first so many images of every class alone.
        device: cpu or cuda.
        out: folder for the record (JSON) and the pictures (PNG).
    """
    if images_per_class < 2:
        raise ValueError("alignment and diversity need images_per_class of 2 or more")
    at_least(1, networks=networks, seeds=seeds)
    data = read(dataset, train_per_class=train_per_class, test_per_class=test_per_class, device=device)
    pool, test, name = data.pool, data.test, data.images.name
    protocol = training("dm2023", data.images, epochs)
    spelled_out = {text: spelled(text) for text in methods}
    settings = {**data.described(), "methods": methods, "condensers": spelled_out, "net": net}
    settings |= {"images_per_class": images_per_class, "architectures": architectures, "networks": networks}
    settings |= {"seeds": seeds, "evaluation": protocol.name, "scale": "reduced"}
    recording = begin("analyses", settings, device=pool.device)
    full = replace(protocol.scaled(reference_epochs), batch_size=64)
    references = [trained(pool.all().x, pool.all_labels(), pool, net, full, k) for k in range(networks)]
    path = out / f"analyses_{name}.json"
    out.mkdir(parents=True, exist_ok=True)
    velocities: dict[str, Velocities] = {}
    firsts: dict[str, CondensedSet] = {}
    with Progress(seeds * len(methods), "analyses", unit="sets") as progress:
        for seed in range(seeds):
            for text in methods:
                condenser = memory_condenser(text, net, data.images.augmentation)
                if seed == 0:
                    condenser, seen = watched(condenser, test)
                    velocities |= {text: seen} if seen else {}
                condensed = condenser(pool, images_per_class, seed=seed)
                firsts.setdefault(text, condensed)
                batch = condensed.images()
                for k, reference in enumerate(references):
                    model = trained(batch.x, batch.y, pool, net, protocol, k)
                    found, matrix = measure(condensed, pool, test, reference, model)
                    tested = evaluate(condensed, test, names.network(net), protocol=protocol, seeds=1, seed=k)
                    found[MEASURES[-1]] = tested.mean  # whitening and soft labels included
                    recording.add(method=text, seed=seed, network=k, **found)
                    if seed == k == 0:
                        draw_cka(matrix, layers_of(reference), out, text)
                write(recording.finish(), path)
                progress.advance(note=text)
    for text, seen in velocities.items():
        turned = {
            "image_kernel_velocities": seen.images.velocities,
            "weight_kernel_velocities": seen.weights.velocities,
        }
        recording.add(method=text, **turned)
    print(table(recording.results))
    print("\n".join(settings_note(spelled_out)))
    if architectures:
        rows = {
            text: analysis.cross_architecture(
                firsts[text],
                test,
                {a: names.network(a) for a in architectures},
                evaluate=evaluate,
                protocol=protocol,
                seeds=2,
            )
            for text in methods
        }
        for text, row in rows.items():
            recording.add(method=text, architectures={name: list(e.accuracies) for name, e in row.items()})
        print(analysis.cross_architecture_table(rows, percent=False))
    draw_features(firsts, pool, references[0], out / f"analyses_{name}_tsne.png")
    draw_velocities(velocities, out / f"analyses_{name}_velocity.png")
    write(recording.finish(), path)
    print(f"record: {path}; pictures beside it")


def trained(x: Tensor, y: Tensor, pool: ClassPool, net: str, protocol: Protocol, seed: int) -> nn.Module:
    """A network trained on images and labels."""
    random = Random(seed, x.device)
    with random.scope():
        model = as_factory(names.network(net))(pool.shape, pool.classes).to(x.device)
    return train(model, x, y, protocol, random).eval()


def watched(condenser: Condenser, test: ClassPool) -> tuple[Condenser, Velocities | None]:
    """The same condenser, and what will be seen of its kernels; nothing where it matches no gradients."""
    if not isinstance(condenser, Distiller) or not condenser.objective.weight_gradients:
        return condenser, None
    few = test.rows(torch.arange(0, len(test), max(1, len(test) // 8), device=test.device))[:8]
    seen = Velocities()

    def see_network(model: nn.Module) -> None:
        seen.weights.observe(analysis.projected_ntk(model, few, directions=64, outputs="trace"))

    def see_kernel(kernel: Tensor) -> None:
        seen.images.observe(kernel)

    networks = analysis.Watched(condenser.networks, see_network)
    return replace(condenser, networks=networks, objective=analysis.WatchedTerm(condenser.objective, see_kernel)), seen


def measure(
    condensed: CondensedSet, pool: ClassPool, test: ClassPool, reference: nn.Module, model: nn.Module
) -> tuple[dict[str, float], Tensor]:
    """Every measure of one set but accuracy, under networks trained on real data and on the set; and the CKA of their layers."""
    batch = condensed.images()
    probe = Probe(reference, ("convolutions",))  # what an instance norm gives has the same moments for every image
    with torch.no_grad():
        syn, real = probe(batch.x), probe(pool.all().x)
    first = probe.names("convolutions")[0]
    nearest = analysis.consistency_ratio(syn.embedding, batch.y, real.embedding, pool.all_labels(), neighbours=(10,))
    matrix = analysis.cka_matrix(*(analysis.layer_outputs(n, test.all().x, layers_of(n)) for n in (reference, model)))
    values: tuple[Tensor | float, ...] = (
        analysis.alignment(syn.embedding, batch.y),
        analysis.uniformity(syn.embedding),
        analysis.intra_class_diversity(syn.embedding, batch.y).mean(),
        analysis.style_distance(real.maps[first], syn.maps[first]),
        nearest[0] * 100,
        matrix.diagonal().mean(),
    )
    return {name: float(value) for name, value in zip(MEASURES[:-1], values, strict=True)}, matrix


def layers_of(net: nn.Module) -> list[str]:
    """Convolutional and linear layers, by name."""
    return [name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def draw_cka(matrix: Tensor, layers: list[str], out: Path, text: str) -> None:
    """The heat map of one set."""
    name = text.partition("(")[0]
    title = f"real (rows), {name} (columns)"
    analysis.cka_picture(out / f"cka_{name}.png", matrix, rows=layers, columns=layers, title=title)


def draw_features(sets: dict[str, CondensedSet], pool: ClassPool, reference: nn.Module, path: Path) -> None:
    """t-SNE of real images and all sets."""
    probe = Probe(reference)
    every = max(1, len(pool) // 500)
    with torch.no_grad():
        features = {"real": probe(pool.rows(torch.arange(0, len(pool), every, device=pool.device))).embedding}
        features |= {text.partition("(")[0]: probe(condensed.images().x).embedding for text, condensed in sets.items()}
    analysis.tsne_picture(path, features)


def draw_velocities(velocities: dict[str, Velocities], path: Path) -> None:
    """Both kernels' velocities over image steps."""
    if not velocities:
        return
    titles = {
        "images": "Gram matrix of the matching loss's Jacobian by image (DCC, Fig. 4)",
        "weights": "neural tangent kernel of the networks, 8 test images",
    }
    with save_figure(path, rows=2, width=7.5, height=2.6, sharex=True) as axes:
        for axis, (which, title) in zip(axes, titles.items(), strict=True):
            for k, (text, seen) in enumerate(velocities.items()):
                values = getattr(seen, which).velocities
                style: dict[str, Any] = {"color": COLORS[k % len(COLORS)], "linewidth": 1}
                axis.plot(range(1, len(values) + 1), values, label=memory_title(text, list(velocities)), **style)
            axis.set_title(title, fontsize=9)
            axis.set_ylabel("kernel velocity")
            axis.set_yscale("log")
        axes[0].legend(fontsize=8)
        axes[1].set_xlabel("image steps")


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a method: means over sets and networks; the interval is over sets."""
    measured = [r for r in results if "seed" in r]
    rows = []
    for text in dict.fromkeys(r["method"] for r in measured):
        own = [r for r in measured if r["method"] == text]
        row = [text]
        for name in MEASURES:
            by_set = [
                statistics.fmean(r[name] for r in own if r["seed"] == seed) for seed in sorted({r["seed"] for r in own})
            ]
            row.append(format_summary(summary(by_set), scale=1, digits=1 if abs(by_set[0]) > 10 else 3))
        rows.append(row)
    sets = len({r["seed"] for r in measured})
    return f"{text_table(['method', *MEASURES], rows)}\nmean and 95 % interval over {sets} sets"
