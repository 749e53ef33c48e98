"""How `nox -s docs` makes the site of these pages: Sphinx with MyST, so that they stay plain Markdown on a forge."""

import re
from pathlib import Path

SOURCE = (Path(__file__).parents[1] / "deeptune" / "__init__.py").read_text("utf-8")
VERSION = re.search(r'__version__ = "(.+)"', SOURCE)
assert VERSION

project = "DeepTune"
author = "The DeepTune authors"
release = VERSION[1]
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinxcontrib.asciinema"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures of other libraries have no pages here
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # links to headings, by the anchors that forges make
nb_execution_mode = "off"  # a notebook shows the outputs that are stored in it
copybutton_exclude = ".linenos, .gp, .go"  # prompts and outputs are not copied

html_theme = "furo"
html_title = f"DeepTune {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
