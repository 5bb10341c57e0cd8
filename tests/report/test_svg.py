"""Figures: well-formed, true to their numbers, nothing beyond 100 percent."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from ddreplay.report.svg import Dot, Point, confusion_grid, dot_rows, line_chart


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("text")]


def horizontal(svg: str, color: str) -> list[tuple[float, float]]:
    lines = [node.attrib for node in ET.fromstring(svg).iter("line")]
    return [(float(a["x1"]), float(a["x2"])) for a in lines if a["y1"] == a["y2"] and a["stroke"] == color]


def test_an_interval_ends_where_percents_do() -> None:
    svg = dot_rows([("a", [Dot(96.0, 20.0)]), ("b", [Dot(2.0, 5.0)])], "two")
    grid = [float(n.attrib["x1"]) for n in ET.fromstring(svg).iter("line") if n.attrib["x1"] == n.attrib["x2"]]
    zero, hundred = min(grid), max(grid)
    (_, high), (low, _) = horizontal(svg, "#0072B2")
    assert high == pytest.approx(hundred, abs=0.1)
    assert low == pytest.approx(zero, abs=0.1)
    assert "96.0 ± 20.0" in texts(svg)


def test_a_value_without_an_interval_has_no_bar() -> None:
    svg = dot_rows([("a", [Dot(50.0)])], "one")
    assert horizontal(svg, "#0072B2") == []
    assert "50.0" in texts(svg)


def test_dots_of_a_row_have_a_colour_and_a_shape_each() -> None:
    svg = dot_rows([("a", [Dot(10.0), Dot(20.0, kind=1), Dot(30.0, kind=2)])], "three", ["x", "y", "z"])
    tree = ET.fromstring(svg)
    tags = [node.tag for node in tree if node.tag in ("circle", "rect", "polygon")]
    assert sorted(tags) == ["circle", "circle", "polygon", "polygon", "rect", "rect"]  # legend and row
    assert {"x", "y", "z"} <= set(texts(svg))


def test_a_curve_goes_through_its_points_and_is_named_at_its_end() -> None:
    svg = line_chart(
        {"up": [Point(100, 1.0), Point(400, 3.0, 0.5)], "flat": [Point(100, 2.0), Point(400, 2.0)]},
        "t",
        "x",
        "y",
        log_x=True,
    )
    paths = [node.attrib["points"] for node in ET.fromstring(svg).iter("polyline")]
    corners = [[tuple(map(float, p.split(","))) for p in path.split()] for path in paths]
    up, flat = corners
    assert flat[0][1] == flat[1][1]
    assert up[0][1] - flat[0][1] == pytest.approx(flat[1][1] - up[1][1], abs=0.2)  # as far below as above
    assert {"up", "flat", "100", "400"} <= set(texts(svg))


def test_a_chart_keeps_to_its_bounds_and_its_numbers_apart() -> None:
    points = [Point(1000, 90.0, 30.0), Point(1010, 50.0), Point(64000, 5.0, 30.0)]
    svg = line_chart({"a": points}, "t", "x", "y", log_x=True, bounds=(0, 100))
    tree = ET.fromstring(svg)
    heights = [float(n.attrib[k]) for n in tree.iter("line") if n.attrib["stroke"] == "#0072B2" for k in ("y1", "y2")]
    grid = {float(n.attrib["y1"]) for n in tree.iter("line") if n.attrib["stroke"] == "#d0d0d0"}
    assert min(heights) == pytest.approx(min(grid), abs=0.2)  # 100
    assert max(heights) == pytest.approx(max(grid), abs=0.2)  # 0
    assert {"1,000", "64,000"} <= set(texts(svg))
    assert "1,010" not in texts(svg)


def test_more_curves_than_colours_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6 curves, got 7"):
        line_chart({str(k): [Point(1, 1.0)] for k in range(7)}, "t", "x", "y")


def test_confusion_is_in_percent_of_the_row() -> None:
    svg = confusion_grid([[3, 1], [0, 5]], ["cat", "dog"], ["cat", "dog"], "c")
    numbers = [t for t in texts(svg) if re.fullmatch(r"\d+", t)]
    assert numbers == ["75", "25", "100"]
    shades = [float(n.attrib["fill-opacity"]) for n in ET.fromstring(svg).iter("rect")]
    assert shades == [0.75, 0.25, 0.0, 1.0]


def test_names_that_would_break_a_page_do_not() -> None:
    svg = dot_rows([("<script>&\"'", [Dot(1.0, math.nan)])], '<b>"title"')
    assert "<script>" not in svg
    assert texts(svg)[-2].startswith("<script>") or "<script>&\"'" in texts(svg)
