"""Sphinx configuration: the Markdown pages of the repository and the API of the three packages.

The source folder is the repository itself, so that a page reads the same on its own and here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("man_core", "dicom_node", "training")
WITHOUT_API = ("*/__main__.py", "*/cli/__main__.py", "dicom_node/ledger/migrations/*")
sys.path.insert(0, str(REPOSITORY))

from dicom_node.product import PRODUCT_VERSION  # noqa: E402 - found by the line above

project = "MAN node"
author = "the MAN node project"
version = release = PRODUCT_VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.apidoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "config/README.md",
    "config/tables/README.md", "benchmarks/README.md", "man_core/pretrained/README.md",
]  # fmt: skip
exclude_patterns = [
    ".*", "build", "data", "demo", "runs", "tests", "var",
    "docs/api/*/modules.rst",
]  # fmt: skip

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

apidoc_modules = [
    {
        "path": str(REPOSITORY / package),
        "destination": f"docs/api/{package}",
        "exclude_patterns": [str(REPOSITORY / pattern) for pattern in WITHOUT_API],
        "separate_modules": False,  # the sidebar of every page lists all pages
        "module_first": True,
    }
    for package in PACKAGES
]
autodoc_default_options = {"ignore-module-all": True}  # each name where it is defined
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = [
    "ref.python",  # several classes may have an attribute of one name
    "ref.ref",  # texts that a library wrote on an attribute refer to pages of its own
]

html_theme = "furo"
html_title = f"MAN node {PRODUCT_VERSION}"
html_extra_path = ["site"]
html_copy_source = False

READERS = {
    "For operators": [
        "docs/operating", "docs/rules", "docs/monitoring", "docs/scale-out",
    ],
    "For physicists": [
        "docs/guard", "docs/assessing", "docs/retraining", "docs/perceptual", "docs/results/*",
        "man_core/pretrained/README", "config/tables/README",
    ],
    "For PACS and network": ["docs/conformance", "docs/security"],
    "For developers": [
        "CONTRIBUTING", "CHANGELOG", "benchmarks/README", "config/README", "docs/README",
    ],
    "Decisions": ["docs/decisions/*"],
    "API": [f"docs/api/{package}/{package}" for package in PACKAGES],
}  # fmt: skip
"""Pages by reader: the table of contents, which a repository browser does not need to see."""


def add_contents(_: Sphinx, page: str, source: list[str]) -> None:
    """Append the table of contents to the first page."""
    if page == root_doc:
        source[0] += "".join(contents(reader, pages) for reader, pages in READERS.items())


def contents(reader: str, pages: list[str]) -> str:
    """Write the hidden toctree of one reader."""
    lines = ["", "```{toctree}", f":caption: {reader}", ":glob:", ":hidden:", "", *pages, "```", ""]
    return "\n".join(lines)


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.connect("source-read", add_contents)
