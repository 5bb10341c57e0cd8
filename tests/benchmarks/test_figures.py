"""Pictures: what they draw is what the tables beside them say, and curves can be told apart."""

from __future__ import annotations

import math
import re
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figures as module
from benchmarks.analyses import MEASURES
from benchmarks.analyses import table as analyses_table
from benchmarks.bytes_factor import class_incremental_results, needs
from benchmarks.figures import PICTURES, RECORDS, STREAM, bytes_of_cifar10, bytes_table, figures, stream_table
from benchmarks.mim import own_loss
from benchmarks.report import byte_curves, streams
from benchmarks.report.figures import COLORS, MOST_CURVES, Curve, draw_curves, save_figure, spread_apart
from benchmarks.report.records import read
from benchmarks.report.tables import Summary, format_summary, paired, summary

ROOT = Path(__file__).resolve().parents[2]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def captured(monkeypatch: pytest.MonkeyPatch, where: Any) -> list[list[Curve]]:
    """What a module draws, panel by panel."""
    panels: list[list[Curve]] = []
    monkeypatch.setattr(where, "draw_curves", lambda axis, curves, **how: panels.append(list(curves)))
    return panels


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


# ---- table and picture


def test_the_picture_of_bytes_draws_what_its_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = captured(monkeypatch, byte_curves)
    module.draw_bytes_cifar10(tmp_path / "bytes.png")
    (curves,) = panels
    drawn = {(curve.name, budget): format_summary(s, scale=1) for curve in curves for budget, s in curve.points.items()}
    header, _, *rows = rows_of(bytes_table())
    for row in rows:
        budget = 1000 * int(row[0].removesuffix(" kB"))
        for name, cell in zip(header[1:], row[1:], strict=True):
            shown = drawn.get((name, budget)) or drawn["DM through AVIF,\nfour tiles an image", budget]
            assert cell.replace("**", "").startswith(f"{shown} (")
    assert len(drawn) == sum(len(row) - 1 for row in rows)


def test_real_images_have_the_higher_of_both_records() -> None:
    kept = byte_curves.curves(bytes_of_cifar10())
    runs = [
        byte_curves.curves(read(RECORDS / f"bytes_cifar10{more}.json").results) for more in ("", "_real_low_quality")
    ]
    for memory, budgets in kept.items():
        for budget, values in budgets.items():
            means = [summary(run[memory][budget]).mean for run in runs if budget in run.get(memory, {})]
            assert summary(values).mean == max(means)
    assert len(kept["random jpeg"]) == 4


def test_the_table_of_bytes_in_the_docs_is_that_of_the_records() -> None:
    written = {row[0]: row for row in rows_of(RESULTS) if re.fullmatch(r"\d kB", row[0])}
    wanted = [[cell.replace("*", "") for cell in row] for row in rows_of(bytes_table())[2:]]
    assert [[cell.replace("*", "") for cell in written[row[0]][:5]] for row in wanted] == wanted


def test_the_tables_of_the_stream_in_readme_and_docs_are_that_of_the_record() -> None:
    record = read(RECORDS / "class_incremental_cifar10_bytes.json")
    wanted = [[*row[:1], row[1].replace(".00", ""), *row[2:]] for row in rows_of(stream_table(record.results))[2:]]
    assert len(wanted) == 4
    for text in (RESULTS, (ROOT / "README.md").read_text(encoding="utf-8")):
        written = [[cell.replace("*", "") for cell in row] for row in rows_of(text)]
        assert all(row in written for row in wanted)


@pytest.mark.parametrize("name", ["strategies", "budgets"])
def test_tables_with_a_number_for_each_seed_are_those_of_the_record(name: str) -> None:
    results = read(RECORDS / f"class_incremental_cifar10_{name}.json").results
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for r in sorted(results, key=lambda r: r["seed"]):
        budget = streams.budget_of(r).removesuffix(" per class").replace(".00", "")
        row = found.setdefault((streams.title_of(r["strategy"]), budget), {})
        row.setdefault(r["memory"], []).append(f"{r['average_accuracy']:.1f}")
    written = [[cell.replace("*", "") for cell in row] for row in rows_of(RESULTS)]
    assert len(found) >= 4
    for (title, budget), cells in found.items():
        assert [title, budget, *(", ".join(cells[memory]) for memory in ("herding", "default"))] in written


def test_the_table_of_the_stream_through_thumb_is_that_of_its_records() -> None:
    ours = read(RECORDS / "class_incremental_cifar10_thumb.json").results
    avif = [
        r for name in ("bytes", "budgets") for r in read(RECORDS / f"class_incremental_cifar10_{name}.json").results
    ]
    written = [[cell.replace("*", "") for cell in row] for row in rows_of(RESULTS)]
    rows = {(r["strategy"], r["bytes_per_class"]) for r in ours}
    assert len(rows) >= 4
    for strategy, budget in rows:
        seeds = sorted({r["seed"] for r in ours if (r["strategy"], r["bytes_per_class"]) == (strategy, budget)})

        def found(
            results: Any, memory: str, row: tuple[str, int] = (strategy, budget), seeds: list[int] = seeds
        ) -> str:
            here = {
                r["seed"]: r["average_accuracy"]
                for r in results
                if (r["strategy"], r["bytes_per_class"], r["memory"]) == (*row, memory)
            }
            return ", ".join(f"{here[seed]:.1f}" for seed in seeds)

        row = [found(results, memory) for memory in ("herding", "default") for results in (avif, ours)]
        size = f"{budget} B" if budget < 1000 else f"{budget // 1000} kB"
        assert [streams.title_of(strategy), size, *row] in written


def test_the_bytes_that_real_images_need_are_those_of_the_records() -> None:
    found = needs(class_incremental_results([RECORDS / name for name in STREAM]), ("default",), ("gdumb",))
    uint8 = {need.budget: need for need in found if need.rival == "ring(codec=uint8)"}
    assert sorted(uint8) == ["1.00 kB per class", "4.00 kB per class", "8.00 kB per class"]
    (largest,) = [cells for cells in rows_of(RESULTS) if cells[0] == "8 kB per class"]
    need = uint8.pop("8.00 kB per class")
    assert largest[1] == f"{need.needed.nbytes / 1000:.0f} kB"
    assert largest[2].startswith(f"{need.needed.nbytes / need.nbytes:.0f}, of the means")
    assert need.by_seed is None
    assert all(need.by_seed is not None and need.paired == 3 for need in uint8.values())
    for budget, row in (("1.00 kB per class", "1 kB per class"), ("4.00 kB per class", "4 kB per class")):
        (cells,) = [cells for cells in rows_of(RESULTS) if cells[0] == row]
        spread = uint8[budget].by_seed
        said = [f"{math.exp(v):.0f}" for v in (spread.mean, spread.low, spread.high)]
        assert cells[1] == f"{uint8[budget].needed.nbytes / 1000:.0f} kB"
        assert cells[2] == f"{said[0]} ({said[1]} to {said[2]})"


def test_the_table_of_codecs_in_the_docs_is_that_of_the_record() -> None:
    results = read(RECORDS / "codecs_cifar10.json").results
    written = [[cell.replace("*", "") for cell in row] for row in rows_of(RESULTS)]
    cells = {(r["images_per_class"], r["bytes_per_class"]) for r in results}
    assert len(cells) >= 5
    for images, budget in cells:
        errors = {
            r["codec"]: r.get("errors")
            for r in results
            if (r["images_per_class"], r["bytes_per_class"]) == (images, budget)
        }
        less = [100 * (1 - ours / theirs) for ours, theirs in zip(errors["thumb"], errors["avif"], strict=True)]
        means = [f"{statistics.fmean(errors[codec]):.0f}" for codec in ("jpeg", "avif", "thumb")]
        spread = f"{statistics.fmean(less):.0f} % ({min(less):.0f} to {max(less):.0f})"
        size = f"{budget} B" if budget < 1000 else f"{budget // 1000} kB"
        assert [str(images), size, *means, spread] in written


def test_the_table_of_digits_in_the_docs_is_that_of_the_record() -> None:
    groups = streams.grouped(read(RECORDS / "class_incremental_digits.json").results)
    written = [row for row in rows_of(RESULTS) if row[0] in ("GDumb", "experience replay") and row[1].isdigit()]
    assert len(written) == 6
    for title, count, _, *cells in written:
        strategy = "gdumb" if title == "GDumb" else "er"
        values = {
            memory: [r["average_accuracy"] for r in groups[strategy, int(count), memory]]
            for memory in ("ring", "herding", "dm", "dc")
        }
        assert cells[:4] == [format_summary(summary(v), scale=1) for v in values.values()]
        assert cells[4] == "+" + format_summary(paired(values["dm"], values["ring"]), scale=1)


SMALL_TABLES = {
    "one_age_digits": {
        "freshly initialised": "dm(networks=banked(size=10))",
        "all trained for 20 steps (one epoch)": "dm(networks=banked(size=10, runs=10, trained=20))",
        "all trained for 100 steps": "dm(networks=banked(size=10, runs=10, trained=100))",
        "all trained for 300 steps": "dm(networks=banked(size=10, runs=10, trained=300))",
        "of different ages up to 300 steps": "dm(networks=banked(size=10, trained=300))",
    },
    "draws_by_class_digits": {
        "one a step for all classes": "dm(networks=banked(size=20), steps=200)",
        "one a step for each class": "dm(networks=banked(size=20), steps=200, "
        "augment=by_class(siamese('color_crop_cutout_scale_rotate')))",
    },
    "training_precision_digits": {
        "float32": "dsa(convnet(width=32), rounds=4, loops=(10, 10), lr=2.0, lr_net=0.05)",
        "bfloat16 with matching in float32": "dsa(bfloat16(convnet(width=32)), rounds=4, loops=(10, 10), lr=2.0, lr_net=0.05)",
    },
}
"""Tables with a row for every method of a comparison: what stands first in a row of the docs, and the method."""


@pytest.mark.parametrize("name", SMALL_TABLES)
def test_tables_with_a_row_for_every_method_are_those_of_their_records(name: str) -> None:
    results = read(RECORDS / f"{name}.json").results
    counts = sorted({r["images_per_class"] for r in results})
    cited = RESULTS.index(f"{name}.json")
    written = {row[0]: row[1:] for row in rows_of(RESULTS[cited : RESULTS.index("|\n\n", cited)] + "|")}
    for title, method in SMALL_TABLES[name].items():
        own = [[r["accuracy"] for r in results if (r["method"], r["images_per_class"]) == (method, n)] for n in counts]
        wanted = [format_summary(summary(values), scale=1) for values in own]
        assert [cell.replace("*", "") for cell in written[title][: len(counts)]] == wanted


def test_the_table_of_the_analyses_is_that_of_the_record() -> None:
    results = read(RECORDS / "analyses_digits.json").results
    lines = [re.split(r"\s{2,}", line.strip()) for line in analyses_table(results).splitlines()]
    table = RESULTS.partition("| set | alignment |")[2].partition("\n\n")[0]
    written = {row[0]: row[1:] for row in rows_of(table)}
    assert len(written) >= 5
    shown = [1 + MEASURES.index(name) for name in ("alignment", "uniformity", "diversity", "consistency", "CKA")]
    for cells in lines[2:-1]:
        assert written[cells[0].partition("(")[0]] == [cells[k] for k in shown]
    turned = {r["method"].partition("(")[0]: r["image_kernel_velocities"] for r in results if "seed" not in r}
    medians = [f"{statistics.median(turned[name]):.2f}" for name in ("dc", "dcc")]
    assert f"{medians[0]} for DC and {medians[1]} for DCC" in RESULTS
    style = read(RECORDS / "analyses_digits_style.json").results
    found = {m: [f"{r['style distance']:.3f}" for r in style if r["method"] == m] for m in ("random", "dm", "ddm")}
    said = f"random {' and '.join(found['random'])} in two sets, DM {' and '.join(found['dm'])}, DDM with Gram matrices"
    assert f"{said} {' and '.join(found['ddm'])}" in RESULTS.replace("\n", " ")


def test_the_table_of_mtt_with_mutual_information_is_that_of_its_records() -> None:
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for size in ("small", "large"):
        record = read(RECORDS / f"mim4dd_digits_mtt_{size}_ratios_validation.json")
        for r in record.results:
            values = [value for _, value in own_loss(r)]
            end = statistics.fmean(values[-(len(values) // 8) :])
            title = str(r["variant"]).removeprefix("ratio=")
            known = found.setdefault(title, {}).setdefault(r["seed"], (r["accuracy"], end))
            assert known == pytest.approx((r["accuracy"], end))  # the method alone is in both
    table = RESULTS.partition("| MTT, ratio of gradients")[2].partition("\n\n")[0]
    written = {row[0]: row[1:] for row in rows_of(table)}
    for title, sets in found.items():
        second = f"{sets[1][0]:.1f}" if 1 in sets else "-"
        assert written[title][1:] == [f"{sets[0][0]:.1f}", second, f"{sets[0][1]:.3f}"], title


def test_every_record_is_cited_and_every_link_leads_somewhere() -> None:
    folders = (ROOT / "ddreplay", ROOT / "benchmarks", ROOT / "strategies")
    said = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    )
    said += "".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.py")))
    assert [path.name for path in sorted(RECORDS.glob("*.json")) if path.name not in said] == []
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", RESULTS) if "://" not in link]
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_record_says_what_ran_and_can_be_read() -> None:
    for path in sorted(RECORDS.glob("*.json")):
        record = read(path)
        assert record.results, path.name
        assert record.command, path.name


# ---- curves


def test_curves_of_a_stream_differ_and_names_stand_at_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = captured(monkeypatch, streams)
    results = read(RECORDS / "class_incremental_digits.json").results
    streams.draw(results, tmp_path / "a.png", "digits")
    assert len(panels) == 6
    for curves in panels:
        names = [curve.name for curve in curves]
        assert names == ["finetuning", "joint training", "ring buffer", "herding", "DM", "DC"]
        assert len({(curve.color, curve.line) for curve in curves}) == 6
    lines = {curve.name: curve.line for curve in panels[0]}
    assert lines["finetuning"] != lines["joint training"]


def test_many_memories_are_cut_to_six_with_a_real_one_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = captured(monkeypatch, streams)
    results = read(RECORDS / "class_incremental_digits_methods.json").results
    streams.draw(results, tmp_path / "a.png", "digits")
    assert [len(curves) for curves in panels] == [MOST_CURVES] * 2
    assert "ring buffer" in [curve.name for curve in panels[0]]
    with save_figure(tmp_path / "b.png") as (axis,), pytest.raises(ValueError, match="at most 6 curves, got 7"):
        draw_curves(axis, [Curve(str(k), {1: summary([k, k + 1])}, "black") for k in range(7)])


def test_bands_and_bars_end_at_0_and_100(tmp_path: Path) -> None:
    wild = Curve(
        "wild", {1: Summary(99, 9, 9, 3), 2: Summary(2, 9, 9, 3), 3: Summary(50, 9, float("nan"), 1)}, COLORS[0]
    )
    with save_figure(tmp_path / "a.png", columns=2) as axes:
        draw_curves(axes[0], [wild])
        draw_curves(axes[1], [wild], bars=True)
        band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
        bars = [y for segment in axes[1].collections[0].get_segments() for y in segment[:, 1]]
        for heights in (list(band), bars):
            assert (min(heights), max(heights)) == (0, 100)
        assert [text.get_text() for axis in axes for text in axis.texts] == ["wild", "wild"]


def test_places_are_moved_apart_in_order_and_stay_inside() -> None:
    moved = spread_apart([0.99, 0.5, 0.98, 0.51], 0.1)
    assert sorted(moved) == [moved[k] for k in (1, 3, 2, 0)]
    ordered = sorted(moved)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert min(moved) >= 0
    assert max(moved) <= 1
    assert spread_apart([0.1, 0.9], 0.2) == [0.1, 0.9]


def test_the_command_draws_every_picture_the_same_way_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures(out=tmp_path / "a")
    said = capsys.readouterr().out
    assert "DM through AVIF" in said
    assert "joint training" in said
    figures(("bytes_cifar10",), out=tmp_path / "b")
    assert {path.stem for path in (tmp_path / "a").iterdir()} == set(PICTURES)
    first, second = ((tmp_path / folder / "bytes_cifar10.png").read_bytes() for folder in "ab")
    assert first == second
    with pytest.raises(ValueError, match="names must be among"):
        figures(("kittens",))


def test_pictures_of_the_docs_are_there() -> None:
    shown = {Path(link).stem for link in re.findall(r"!\[[^]]*\]\(([^)]+\.png)\)", RESULTS)}
    assert shown == set(PICTURES)
    assert {path.stem for path in (ROOT / "docs").glob("*.png")} >= shown
