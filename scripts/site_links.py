"""A hook of mkdocs for links from pages to files of the repository that are not pages.

``docs/`` is also read as plain files, where ``../wmplay/contracts/`` leads to the file. On the site the link
leads to the repository if mkdocs.yml has a ``repo_url``, and is plain text otherwise. A missing file fails a
strict build.
"""

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)")

log = logging.getLogger("mkdocs.hooks.site_links")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Return the page's text with links to files replaced."""
    page_path = Path(config.docs_dir) / page.file.src_uri

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (page_path.parent / target).resolve()
        if path.is_relative_to(config.docs_dir):
            return link.group()
        if not path.exists():
            log.warning("%s links to %s, which is not there", page.file.src_uri, target)
        if not config.repo_url:
            return text
        kind = "tree" if path.is_dir() else "blob"
        return f"[{text}]({config.repo_url.rstrip('/')}/{kind}/main/{path.relative_to(ROOT)})"

    return LINK.sub(replaced, markdown)
