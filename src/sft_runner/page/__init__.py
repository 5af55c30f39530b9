"""What the HTML pages share: a frame that loads nothing and runs no script, its style sheet, and Jinja for it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(folder: Path) -> "Environment":
    """Jinja over the templates of `folder`, which extend `frame.html.jinja`. Text is always escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def without_links(html: str) -> str:
    """The same page for another place: what it links to in its own folder and beside it is only named."""
    return re.sub(r'<a href="(?!#)[^"]*">(.*?)</a>', r"\1", html, flags=re.DOTALL)
