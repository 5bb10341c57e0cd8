"""Records survive their file, keep no path of the machine, and tables say what the numbers are."""

import io
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as commands
from benchmarks.report import records, tables
from benchmarks.report.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def finished(**protocol):
    recording = records.begin("gdumb", {"images_per_class": 10, **protocol})
    recording.add(seed=0, accuracy=0.25)
    recording.add(seed=1, accuracy=torch.tensor(0.5), curve=np.array([1, 2]), loss=math.nan)
    return recording.finish(nbytes=3850)


# --- records


def test_record_round_trip(tmp_path):
    record = finished(data=Path("/home/someone/cifar10.npz"), sizes=(1, 2))
    path = records.write(record, tmp_path / "new" / "gdumb.json")
    assert records.read(path) == record
    assert record.protocol == {"images_per_class": 10, "data": "cifar10.npz", "sizes": [1, 2]}
    assert record.values("accuracy") == [0.25, 0.5]
    assert record.results[1] == {"seed": 1, "accuracy": 0.5, "curve": [1, 2], "loss": "nan"}
    assert [file.name for file in path.parent.iterdir()] == ["gdumb.json"]


def test_record_says_what_ran():
    record = finished()
    assert record.seconds >= 0
    assert record.peak_memory is None or record.peak_memory > 10**7
    assert record.peak_cuda_memory is None
    assert record.threads == torch.get_num_threads()
    assert record.versions["torch"] == torch.__version__
    assert set(record.versions) == {"python", "torch", "numpy", "avalanche", "ddreplay"}
    assert "cores" in record.device


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/data/sets/cifar10.npz", "cifar10.npz"),
        ("~/sets/cifar10.npz", "cifar10.npz"),
        ("../../sets/cifar10.npz", "cifar10.npz"),
        ("load('/data/sets/cifar10.npz', size=8)", "load('cifar10.npz', size=8)"),
        ("C:\\sets\\cifar10.npz", "cifar10.npz"),
        ("/data/sets/", "sets"),
        ("benchmarks/records/gdumb.json", "benchmarks/records/gdumb.json"),
        ("bytes/class, 1 / 2", "bytes/class, 1 / 2"),
        ("https://example.org/page/x", "https://example.org/page/x"),
    ],
)
def test_paths_of_the_machine_are_reduced_to_names(text, kept):
    assert finished(data=text).protocol["data"] == kept


def test_command_line_keeps_no_path(monkeypatch):
    argv = ["/somewhere/benchmarks/__main__.py", "gdumb", "--data", "/a b/cifar10.npz", "--root=/a/sets", "--lr", "0.1"]
    monkeypatch.setattr(sys, "argv", argv)
    assert finished().command == "python -m benchmarks gdumb --data cifar10.npz --root=sets --lr 0.1"


def test_record_refuses_what_json_cannot_hold():
    with pytest.raises(TypeError, match=r"protocol\['net'\] must be a JSON value.*got object"):
        finished(net=object())


def test_a_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
    record = finished()
    path = records.write(record, tmp_path / "gdumb.json")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        records.write(finished(steps=3), path)
    assert records.read(path) == record
    assert [file.name for file in tmp_path.iterdir()] == ["gdumb.json"]


def test_reading_something_else(tmp_path):
    path = records.write(finished(), tmp_path / "x.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 0}))
    with pytest.raises(ValueError, match="no record of format 1"):
        records.read(path)
    del content["threads"]
    path.write_text(json.dumps(content | {"speed": 1}))
    with pytest.raises(ValueError, match=r"missing \['threads'\], unknown \['speed'\]"):
        records.read(path)


def test_a_run_goes_on_from_its_record_and_from_no_other(tmp_path):
    path = tmp_path / "gdumb.json"
    first = records.resume(path, "gdumb", {"sizes": (1, 2), "data": Path("/home/someone/cifar10.npz")})
    assert first.results == []
    first.add(seed=0, accuracy=0.5)
    first.started -= 100
    records.write(first.finish(), path)
    again = records.resume(path, "gdumb", {"sizes": [1, 2], "data": "/elsewhere/cifar10.npz"})
    again.add(seed=1, accuracy=0.6)
    assert again.finish().values("seed") == [0, 1]
    assert again.finish().seconds >= 100
    with pytest.raises(
        ValueError, match=r"gdumb.json is the record of another run, .*settings: sizes \[1, 2\], now \[1, 3\]"
    ):
        records.resume(path, "gdumb", {"sizes": (1, 3), "data": "cifar10.npz"})
    with pytest.raises(ValueError, match=r"benchmark 'gdumb', now 'compare'"):
        records.resume(path, "compare", {"sizes": (1, 2), "data": "cifar10.npz"})
    with pytest.raises(ValueError, match=r"data 'cifar10.npz', now '\(not said\)'"):
        records.resume(path, "gdumb", {"sizes": (1, 2)})


def test_what_grows_has_the_entries_of_both_runs_and_no_entry_changes(tmp_path):
    path = tmp_path / "gdumb.json"
    how = {"growing": ("memories",)}
    first = records.resume(path, "gdumb", {"lr": 0.1, "memories": {"ring": "random"}}, **how)
    records.write(first.finish(), path)
    again = records.resume(path, "gdumb", {"lr": 0.1, "memories": {"dm": "dm(steps=2)"}}, **how)
    assert again.protocol["memories"] == {"ring": "random", "dm": "dm(steps=2)"}
    with pytest.raises(ValueError, match=r"memories of ring 'random', now 'herding'"):
        records.resume(path, "gdumb", {"lr": 0.1, "memories": {"ring": "herding"}}, **how)


RECORDS = Path(__file__).resolve().parents[2] / "benchmarks" / "records"
GROWING = {"class-incremental": ("condensers",), "paper": ("rows", "images", "compared")}


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_every_record_kept_can_be_gone_on_from(path):
    record = records.read(path)
    grown = GROWING.get(record.benchmark, ())
    asked = {name: {} if name in grown else value for name, value in record.protocol.items()}
    again = records.resume(path, record.benchmark, asked, growing=grown)
    assert again.results == record.results
    assert again.protocol == record.protocol


def test_a_missing_key_is_named():
    with pytest.raises(KeyError, match=r"results \[0\] of 'gdumb' have no 'loss'"):
        finished().values("loss")


# --- tables


def test_summary_equals_the_textbook():
    found = tables.summary([43.1, 44.0, 43.6, 42.9, 44.4])
    mean = (43.1 + 44.0 + 43.6 + 42.9 + 44.4) / 5
    std = math.sqrt(sum((x - mean) ** 2 for x in (43.1, 44.0, 43.6, 42.9, 44.4)) / 4)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    assert found.half_width == pytest.approx(2.7764451 * std / math.sqrt(5))  # t quantile for 4 degrees of freedom
    assert (found.low + found.high) / 2 == pytest.approx(mean)
    one = tables.summary([1.0])
    assert one.mean == 1.0
    assert math.isnan(one.std)
    assert math.isnan(one.half_width)
    with pytest.raises(ValueError, match="at least one seed"):
        tables.summary([])


def test_paired_difference_removes_what_seeds_share():
    ours, theirs = [10.0, 20.0, 30.0], [9.0, 19.0, 29.0]
    assert tables.paired(ours, theirs)[:3] == (1.0, 0.0, 0.0)
    assert tables.paired(theirs, ours).mean == -1.0
    with pytest.raises(ValueError, match="got 3 and 2"):
        tables.paired(ours, theirs[:2])


def test_summary_formats():
    found = tables.Summary(0.4361, 0.01, 0.004, 5)
    assert tables.format_summary(found) == "43.6 ± 0.4"
    assert tables.format_summary(found, spread="std", digits=2) == "43.61 ± 1.00"
    assert tables.format_summary(tables.summary([0.5])) == "50.0"


def test_tables_align_and_escape():
    rows = [["a|b", "1.0 ± 0.2", "x"], ["c", "-", "y"]]
    text = tables.text_table(["memory", "accuracy", "note"], rows).splitlines()
    assert text[2] == "a|b     1.0 ± 0.2  x"
    assert text[3] == "c               -  y"
    marked = tables.markdown_table(["memory", "accuracy", "note"], rows).splitlines()
    assert marked[1] == "| ------ | --------: | ---- |"
    assert marked[2] == "| a\\|b   | 1.0 ± 0.2 | x    |"
    with pytest.raises(ValueError, match="a row has 1 entries but the header 2"):
        tables.text_table(["a", "b"], [["c"]])


# --- progress


def test_progress_is_one_line_that_ends_complete():
    out = io.StringIO()
    with Progress(3, "dm", file=out, every=0) as progress:
        for seed in range(3):
            progress.advance(note=f"seed {seed}")
    text = out.getvalue()
    assert "\n" not in text.rstrip("\n")
    assert "dm: 3 of 3 steps (100 %)" in text.rsplit("\r", 1)[-1]
    assert "left, seed 2" in text
    with pytest.raises(ValueError, match="total must be positive"):
        Progress(0, "dm")


# --- command line


def test_help_lists_what_is_there_and_imports_none_of_it():
    code = (
        "import sys, benchmarks.__main__ as m; status = m.main(['--help']); "
        "assert not {'torch', 'tyro', 'numpy'} & set(sys.modules); sys.exit(status)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for name, command in commands.COMMANDS.items():
        there = (ROOT / (command.target.partition(":")[0].replace(".", "/") + ".py")).is_file()
        assert (f"  {name} " in ran.stdout) == there


def test_a_command_gets_its_arguments(tmp_path, monkeypatch, capsys):
    (tmp_path / "a_benchmark_for_tests.py").write_text(
        "def run(images_per_class: int = 1, quick: bool = False) -> None:\n    print(images_per_class, quick)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        commands, "COMMANDS", {"sample": commands.Command("a_benchmark_for_tests:run", "prints what it is given")}
    )
    assert commands.main(["sample", "--images-per-class", "3", "--quick"]) == 0
    assert capsys.readouterr().out == "3 True\n"
    assert commands.main(["smaple"]) == 2
    assert "did you mean 'sample'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("compare --seeds 0", "seeds must be at least 1, got 0"),
        ("compare --methods dn", "method must be one of"),
        ("compare --net convnat", "net must be one of"),
        ("compare --dataset nowhere.npz", "nowhere.npz"),
        ("class-incremental --strategies erace", "strategies must be among"),
        ("class-incremental --experiences 3", "10 classes do not divide into 3 experiences"),
        ("class-incremental --codec jpg", "did you mean jpeg?"),
        ("gdumb --memories 'dm(step=3)'", "an option of dm must be one of"),
        ("bytes --memories dm", "memories need a codec"),
        ("task-incremental --images-per-class 0", "images_per_class must be at least 1, got 0"),
        ("fine-grained --dataset digits --groups 1", "group 1 of 10 classes is not there: digits has 10 classes"),
        ("unrolling --steps 0", "steps must be at least 1, got 0"),
        ("precision --ways float64", "ways must be among"),
        ("speed --repeats 0", "repeats must be at least 1, got 0"),
    ],
)
def test_wrong_values_end_in_one_line(arguments, said, tmp_path, capsys):
    assert commands.main([*shlex.split(arguments), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"python -m benchmarks {arguments.split()[0]}: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_no_import_of_a_missing_module(monkeypatch):
    monkeypatch.setattr(commands, "COMMANDS", {"gone": commands.Command("benchmarks.gone:gone", "")})
    assert commands.available() == {}
