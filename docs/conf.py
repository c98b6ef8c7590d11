"""How Sphinx builds these pages: Markdown by MyST, dressed by Furo; every warning is an error (`make docs`)."""

from importlib.metadata import version as version_of

project = "QuantumPartitioner"
author = "the QuantumPartitioner authors"
project_copyright = author
release = version_of("quantum-partitioner")
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{project} {release}"
