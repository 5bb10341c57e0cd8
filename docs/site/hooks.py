"""What the site needs beside the Markdown of this folder: notebooks as pages, and the files of the repository that pages link to."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
RECORDS = "benchmarks/records"


def on_files(files: Files, config: Any) -> Files:
    """Notebooks become pages beside themselves; records are served under records/."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        place = notebook.src_uri.removesuffix(".ipynb")
        text, pictures = _page(
            json.loads(Path(str(notebook.abs_src_path)).read_text(encoding="utf-8")), Path(place).name
        )
        files.append(File.generated(config, f"{place}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{Path(place).parent.as_posix()}/{name}", content=content))
    for record in sorted((ROOT / RECORDS).glob("*.json")):
        files.append(File.generated(config, f"records/{record.name}", content=record.read_bytes()))
    files.append(File.generated(config, "records/index.md", content=_records()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave this folder: to records as the site serves them; to code as its name."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(rf"\]\(\.\./{RECORDS}/([\w.]+\.json)\)", rf"]({up}records/\1)", markdown)
    markdown = re.sub(rf"\]\(\.\./{RECORDS}/?\)", rf"]({up}records/index.md)", markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./(?!\.\.)(?:strategies|benchmarks|ddreplay)[^)]*\)", r"\1", markdown)


def _records() -> str:
    """A list of the records, so that each can be found."""
    lines = [
        "# Records",
        "",
        "What every number of these pages comes from: all seeds, settings, versions and seconds, as JSON.",
        "",
    ]
    return "\n".join([*lines, *(f"- [{r.name}]({r.name})" for r in sorted((ROOT / RECORDS).glob("*.json")))])


def _page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    blocks, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", [])))
            if "image/png" in data:
                file = f"{name}_{len(pictures)}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                blocks.append(f"![What the cell above shows]({file})")
            elif text.strip():
                blocks.append(f"```text\n{text.rstrip()}\n```")
    blocks.append(f"*This page is a notebook: [{name}.ipynb]({name}.ipynb).*")
    return "\n\n".join(blocks) + "\n", pictures
