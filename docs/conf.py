"""Sphinx settings: `sphinx-build -W -b html docs docs/_build/html`."""
import sys
from pathlib import Path

import ptyprep

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "ptyprep"
copyright = "the ptyprep contributors, BSD-3-Clause"     # noqa: A001  Sphinx's name
version = release = ptyprep.__version__
language = "en_GB"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ptyprep {release}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_copy_source = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False
mathjax3_config = {"options": {"enableMenu": False}}


def generate(app):
    """Make the pages and figures that follow from the code."""
    import logging

    import figures
    import reference
    import tutorials
    logging.getLogger("ptyprep").setLevel(logging.WARNING)      # what tutorials note belongs to no build's output
    figures.make(HERE / "figures")
    reference.make(HERE / "reference")
    tutorials.make(HERE / "tutorial")


def setup(app):
    import docstrings
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", docstrings.convert)
