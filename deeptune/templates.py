"""Rendering a page from a template beside the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from deeptune.formatting import visible


def render_template(path: Path, content: Mapping[str, Any], **filters: Callable[..., Any]) -> str:
    """Render a template with its content as one HTML document. Every text is escaped; an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters, visible=visible)
    return environment.get_template(path.name).render(content)
