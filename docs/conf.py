"""Sphinx configuration: every page is run when it is built, and a warning is an error."""

import os
import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from gradfit import __version__

os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
# Output that a page shows must not depend on how wide some terminal is.
os.environ["COLUMNS"] = "100"

project = "gradfit"
author = "the gradfit authors"
project_copyright = f"%Y, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "performance/*"]
root_doc = "index"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "gradfit"
# Formulas become part of the page; nothing is fetched to read them.
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_theme_options = {"navigation_with_keys": True}

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# References at the end of a docstring need not be cited in it.
suppress_warnings = ["ref.footnote"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def number_references(app, what, name, obj, options, lines):
    """Give the numbered references of each docstring a name, as one page holds many of them."""
    label = name.replace(".", "-").lower()
    lines[:] = [re.sub(r"\[(\d+)\](?=_|\s)", rf"[#{label}-\1]", line) for line in lines]


def mathml(node, **how):
    # Docutils knows \ldots only, and sets the index of an accented letter below the letter.
    tex = re.sub(r"\\dots\b", r"\\ldots", node.astext())
    tex = re.sub(r"\\(hat|tilde|bar)\s*(\\[a-z]+|\w)", r"{\\\1{\2}{}}", tex)
    return tex2mathml(tex, **how)


def inline_formula(writer, node):
    writer.body.append(mathml(node))
    raise nodes.SkipNode


def displayed_formula(writer, node):
    writer.body.append(f'<div class="formula">{mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    app.connect("autodoc-process-docstring", number_references)
