"""Runs notebooks from top to bottom and keeps their outputs, without what changes from run to run.

python scripts/notebook.py KWS-ImageBind.ipynb                     # runs it and writes it again
python scripts/notebook.py KWS-ImageBind.ipynb --html DIR          # also as a page, for looking at
python scripts/notebook.py KWS-ImageBind.ipynb --kept --html DIR   # the page of what is kept, nothing is run
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from kws_imagebind.files import whole

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 900  # for one cell, so that a hung one ends
LARGEST = 1_000_000  # bytes of all outputs
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = ("tags", "cellView")
_PLACES = re.compile(r"(?<![\w.:/])/(?:root|home|work|tmp|Users|content|usr|opt|mnt|private)/[\w.-]+")


class NotebookError(RuntimeError):
    """A notebook that must not be kept as it is; the message says why."""


def execute(notebook: NotebookNode, folder: Path, path: Path = ROOT) -> NotebookNode:
    """Runs every cell in a fresh kernel, without a GPU.

    Args:
        notebook: to be run; its outputs are replaced.
        folder: the working directory.
        path: where the package is imported from.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(path), "PYTHONWARNINGS": "default"}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        coalesce_streams=True,  # or what is printed in two goes on a busy machine would be two outputs
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # of the kernel itself, which else warns of its own transport
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return notebook


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Takes out what says when and where it ran: times, versions, random names of cells."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": LANGUAGE, "colab": {"provenance": []}}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for position, cell in enumerate(notebook.cells):
        cell.id = f"cell-{position:02}"
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        )
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if output.get("data", {}).pop(WIDGET, None):  # it lives as long as its kernel
                output["data"] = nbformat.from_dict({"text/plain": "a button that records"})
    return notebook


def check(notebook: NotebookNode) -> None:
    """Refuses a notebook whose outputs no reader should see.

    Raises:
        NotebookError: an error or a warning is among them, a path of this machine, or they are too large.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            raise NotebookError(f"an output holds an error or a warning: {output.get('text', output.get('evalue'))}")
    if place := _PLACES.search(nbformat.writes(notebook)):
        raise NotebookError(f"the notebook holds a path of this machine: {place.group()}")
    size = len(json.dumps(outputs))
    if size > LARGEST:
        raise NotebookError(f"the outputs take {size:,} bytes; at most {LARGEST:,} are expected")


def page(notebook: NotebookNode) -> str:
    """The notebook as one HTML page that needs no network for its text and figures."""
    from nbconvert import HTMLExporter

    return HTMLExporter(mathjax_url="", require_js_url="").from_notebook_node(notebook)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs notebooks and keeps their outputs.")
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--kept", action="store_true", help="run nothing; take the outputs as they are")
    parser.add_argument("--html", type=Path, metavar="DIR", help="also write a page of each there")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        notebook = nbformat.read(path, as_version=4)
        if not arguments.kept:
            notebook = normalise(execute(notebook, path.resolve().parent))
            check(notebook)
            with whole(path) as part:
                part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        if arguments.html:
            arguments.html.mkdir(parents=True, exist_ok=True)
            with whole(arguments.html / f"{path.stem}.html") as part:
                part.write_text(page(notebook), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
