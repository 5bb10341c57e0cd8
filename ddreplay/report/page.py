"""Findings as one HTML page that needs nothing beside it: styles, pictures and figures stand in the file, and there is no script."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddreplay.data.space import to_pixels
from ddreplay.evaluation import Evaluation, interval
from ddreplay.forecast import in_words
from ddreplay.report.findings import Findings, SetFindings
from ddreplay.report.svg import COLORS, Dot, Point, confusion_grid, dot_rows, line_chart
from ddreplay.report.template import write_html

__all__ = ["write_page"]

_PER_CLASS = 12  # images of a class that are shown
_CLASSES = 100  # classes whose images are shown
_GRID = 25  # classes whose confusion is drawn; of more, the commonest mistakes are listed alone
_PAIRS = 24  # near pairs that are shown
_ROWS = 60  # classes that a figure has a row for

_TERMS = 5  # of a loss that are drawn
_FEW_FOR_MANY = 5  # real images for a stored one, below which there is little to condense


def write_page(findings: Findings, path: str | Path) -> Path:
    """Write the page, all or nothing.

    Raises:
        ImportError: when Jinja2 is not installed.
        OSError: when the folder cannot be written.
    """
    template = files("ddreplay.report").joinpath("page.html").read_text(encoding="utf-8")
    return write_html(
        template,
        path,
        title=_listed([one.name for one in findings.sets]),
        findings=findings,
        protocol=_protocol(findings),
        overview=_overview(findings),
        bytes_figure=_bytes_figure(findings),
        sets=[_set(one) for one in findings.sets],
    )


def _mapping(value: Any) -> dict[str, Any]:
    """What a file says of itself, which may be anything."""
    return value if isinstance(value, dict) else {}


def _points(loss: Any) -> list[Point]:
    """The loss that a file has noted: pairs of numbers; nothing where it is anything else."""
    try:
        found = [Point(float(step), float(value)) for step, value in loss]
    except (TypeError, ValueError):
        return []
    return found if all(math.isfinite(v) for point in found for v in point[:2]) else []


def _listed(names: list[str]) -> str:
    """Names in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _protocol(findings: Findings) -> dict[str, Any]:
    chosen = findings.protocol
    return {
        "name": chosen.name,
        "epochs": chosen.epochs,
        "augment": "augmented images (" + chosen.augment.replace("_", ", ") + ")"
        if chosen.augment
        else "images as they are",
        "seeds": findings.seeds,
    }


def _overview(findings: Findings) -> list[dict[str, Any]]:
    """For each network: a figure, and a row for each set and what stands beside it."""
    found = []
    nets = list(findings.sets[0].evaluations)
    chance = 100 / max(1, findings.sets[0].test.classes)
    for net in nets:
        rows, dots = [], []
        for one in findings.sets:
            for rival, result in one.evaluations[net].items():
                name = (
                    one.name if rival == "condensed" else f"{rival} ({one.name})" if len(findings.sets) > 1 else rival
                )
                rows.append(
                    {"name": name, "own": rival == "condensed", **_row(result, one.evaluations[net]["condensed"])}
                )
                dots.append((name, [Dot(result.mean, result.ci95, _kind(rival))]))
        figure = dot_rows(
            dots, f"Accuracy of {net}, mean and 95 % interval over seeds; broken line: guessing", chance=chance
        )
        found.append({"net": net, "figure": figure, "rows": rows})
    return found


def _kind(rival: str) -> int:
    return {"condensed": 0, "random": 1, "herding": 2}.get(rival, 3)


def _row(result: Evaluation, own: Evaluation) -> dict[str, Any]:
    return {
        "lead": "" if result is own else _lead(own, result),
        "accuracy": f"{result.mean:.1f}",
        "interval": f"± {result.ci95:.1f}" if math.isfinite(result.ci95) else "",
        "seeds": ", ".join(f"{a:.1f}" for a in result.accuracies),
        "images": result.images,
        "nbytes": f"{result.nbytes:,}",
        "seconds": in_words(result.seconds),
    }


def _lead(own: Evaluation, other: Evaluation) -> str:
    """The difference in points, with the interval of the differences of networks that started alike."""
    apart = [a - b for a, b in zip(own.accuracies, other.accuracies, strict=True)]
    mean, half = sum(apart) / len(apart), interval(apart)
    if not math.isfinite(half):
        return f"{mean:+.1f}"
    return f"{mean:+.1f} ± {half:.1f}" + (" (open)" if abs(mean) <= half else "")


def _bytes_figure(findings: Findings) -> str:
    """Accuracy against bytes, where sets of several sizes are there; by the first network."""
    net = next(iter(findings.sets[0].evaluations))
    series: dict[str, dict[int, Point]] = {}
    for one in findings.sets:
        method = str(one.condensed.provenance.get("method", "set"))
        for rival, result in one.evaluations[net].items():
            curve = series.setdefault(method if rival == "condensed" else rival, {})
            curve.setdefault(result.nbytes, Point(result.nbytes, result.mean, result.ci95))
    if len({one.condensed.nbytes for one in findings.sets}) < 2:
        return ""
    kept = sorted(series, key=lambda name: (_kind(name) == 3, -len(series[name])))[: len(COLORS)]
    curves = {name: [curve[x] for x in sorted(curve)] for name, curve in series.items() if name in kept}
    how: dict[str, Any] = {"log_x": True, "bounds": (0, 100)}
    return line_chart(curves, f"Accuracy of {net} against bytes", "bytes, everything counted", "accuracy, %", **how)


def _set(one: SetFindings) -> dict[str, Any]:
    said = one.condensed.provenance
    first = next(iter(one.evaluations))
    own = one.evaluations[first]["condensed"]
    pixels, near = one.pixels, _near(one, one.pixels)
    return {
        "name": one.name,
        "about": _about(one),
        "much": len(one.train) < _FEW_FOR_MANY * one.condensed.stored_images,
        "moved_little": 2 * near["closer"] > near["images"],
        "tested": _between(one.test.counts),
        "settings": json.dumps(said.get("settings", {}), indent=1),
        "missing": one.missing,
        "selection": _is_selection(one),
        "untouched": said.get("steps_done") == 0,
        "classes": list(_sheet(one)),
        "hidden_classes": max(0, len(one.condensed.class_ids) - _CLASSES),
        "cut_pixels": f"{100 * float(((pixels < -1e-3) | (pixels > 1 + 1e-3)).float().mean()):.1f}",
        "net": first,
        "per_class": _per_class_figure(one, first),
        "per_class_left_out": max(0, len(own.per_class) - _ROWS),
        "confusion": _confusion_figure(one, own),
        "mistakes": _mistakes(one, own),
        "near": near,
        "loss": _loss_figures(said),
    }


def _between(counts: Sequence[int]) -> str:
    """Numbers as one, or as the least and the most."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _loss_figures(said: Mapping[str, Any]) -> list[str]:
    """How the loss of a condensation went, and each term of it, where it is a sum, on a scale of its own; of many terms the largest."""
    total = _points(said.get("loss"))
    if not total:
        return []
    terms = {
        str(name): found for name, values in _mapping(said.get("loss_terms")).items() if (found := _points(values))
    }
    most = sorted(terms, key=lambda name: -max(abs(point.y) for point in terms[name]))[:_TERMS]
    curves = {
        "all together" if terms else "loss": total,
        **{name: found for name, found in terms.items() if name in most},
    }
    title = "Loss of the condensation over image steps"
    return [
        line_chart({"": curve}, f"{title}: {name}" if terms else title, "image steps", name, color=k)
        for k, (name, curve) in enumerate(curves.items())
    ]


def _about(one: SetFindings) -> dict[str, Any]:
    said, condensed = one.condensed.provenance, one.condensed
    data, versions = _mapping(said.get("data")), _mapping(said.get("versions"))
    nbytes = sum(part.images_nbytes for part in condensed.parts)
    rows = {
        "method": said.get("method", "not noted"),
        "real data": f"{data.get('name', 'not noted')}, {len(one.train):,} images of {one.train.classes} classes",
        "budget": said.get("budget", "not noted"),
        "images": f"{condensed.stored_images} stored, {len(condensed)} trained on, {' x '.join(map(str, condensed.shape))}",
        "bytes": f"{condensed.nbytes:,}: {nbytes:,} of images, {condensed.nbytes - nbytes:,} of labels and the rest; "
        f"the file has a header of {condensed.header_nbytes:,} more",
        "codec": ", ".join(sorted({str(p.codec.spec()["name"]) for p in condensed.parts})),
        "share of the real data": _share(one),
        "made in": in_words(said["seconds"]) if isinstance(said.get("seconds"), (int, float)) else "not noted",
        "on": said.get("device", "not noted"),
        "seed": said.get("seed", "not noted"),
        "steps": said.get("steps_done", "none: images were selected"),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) or "not noted",
    }
    return {**rows, **({"cut short": "; ".join(map(str, said["cut"]))} if "cut" in said else {})}


def _share(one: SetFindings) -> str:
    """How many images stand for all, in words."""
    times = len(one.train) / max(1, one.condensed.stored_images)
    return f"1 of {times:.0f} images" if times >= _FEW_FOR_MANY else f"{100 / times:.0f} % of the images"


def _is_selection(one: SetFindings) -> bool:
    return _mapping(one.condensed.provenance.get("settings")).get("is") == "Selection"


def _sheet(one: SetFindings) -> Iterator[dict[str, Any]]:
    shown = 0
    for part in one.condensed.parts:
        for name, images in zip(part.class_names, part.images, strict=True):
            if shown == _CLASSES:
                return
            shown += 1
            drawn = to_pixels(images[:_PER_CLASS], part.mean, part.std)
            yield {"name": name, "pictures": [_picture(x) for x in drawn], "more": max(0, len(images) - _PER_CLASS)}


def _per_class_figure(one: SetFindings, net: str) -> str:
    """The classes that do worst, where there are too many."""
    results = one.evaluations[net]
    own = results["condensed"].per_class
    names = dict(zip(one.test.class_ids.tolist(), one.test.class_names, strict=True))
    kept = set(sorted(own, key=lambda c: own[c])[:_ROWS])
    rows = [
        (names[c], [Dot(result.per_class[c], kind=_kind(rival)) for rival, result in results.items()])
        for c in own
        if c in kept
    ]
    return dot_rows(rows, f"Accuracy of {net} by class", list(results))


def _columns(one: SetFindings) -> list[str]:
    """Names of the set's classes by ascending id, as networks count them."""
    condensed = one.condensed
    return [name for _, name in sorted(zip(condensed.class_ids, condensed.class_names, strict=True))]


def _confusion_figure(one: SetFindings, own: Evaluation) -> str:
    columns = _columns(one)
    if len(columns) > _GRID:
        return ""
    title = "What test images of every class were taken for, percent of the class"
    return confusion_grid(own.confusion, list(one.test.class_names), columns, title)


def _mistakes(one: SetFindings, own: Evaluation) -> list[dict[str, Any]]:
    """The commonest mistakes, a share of the class each."""
    columns = _columns(one)
    found = []
    for name, row in zip(one.test.class_names, own.confusion, strict=True):
        found += [
            (count / max(1, sum(row)), name, column)
            for column, count in zip(columns, row, strict=True)
            if column != name and count
        ]
    return [{"of": of, "taken_for": for_, "share": f"{100 * s:.0f}"} for s, of, for_ in sorted(found, reverse=True)[:8]]


def _near(one: SetFindings, pixels: Tensor) -> dict[str, Any]:
    """The pairs that are nearest, and how near real images are to each other."""
    order = one.nearest.distances.argsort()[:_PAIRS].tolist()
    real = to_pixels(one.train.rows(one.nearest.rows[order].to(one.train.device)), one.train.mean, one.train.std)
    pairs = [
        {"own": _picture(pixels[k]), "real": _picture(x), "apart": f"{float(one.nearest.distances[k]):.0f}"}
        for k, x in zip(order, real.cpu(), strict=True)
    ]
    spacing, distances = one.spacing, one.nearest.distances
    closest = float(spacing[len(spacing) // 20]) if len(spacing) else math.nan
    return {
        "pairs": pairs,
        "images": len(distances),
        "median": f"{float(distances.median()):.0f}",
        "real_median": f"{float(spacing.median()):.0f}" if len(spacing) else "unknown",
        "real_closest": f"{closest:.0f}",
        "closer": int((distances < closest).sum()) if math.isfinite(closest) else 0,
        "copies": int((distances < 1).sum()),
    }


def _picture(pixels: Tensor) -> str:
    """A PNG in the address of an image."""
    from PIL import Image

    shown = pixels.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, :1].expand(-1, -1, 3)
    buffer = io.BytesIO()
    Image.fromarray(shown.contiguous().numpy()).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
