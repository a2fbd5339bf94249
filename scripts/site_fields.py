"""An extension of griffe that documents a dataclass's fields by the comments behind them.

wmplay writes a field's shape next to it (``action: Tensor  # [B, H, A]``); the reference shows the comment
like the description of an argument. Comments on the lines below a field belong to it as well.
"""

import io
import tokenize
from pathlib import Path
from typing import Any

from griffe import Class, Extension


class FieldComments(Extension):
    """An extension that adds an ``Attributes:`` section to the docstring of each dataclass."""

    def on_class_members(self, *, cls: Class, **kwargs: Any) -> None:
        """Add the section after griffe has read a class."""
        if not any("dataclass" in str(decorator.value) for decorator in cls.decorators):
            return
        assert isinstance(cls.filepath, Path)
        comments = _comments(cls.filepath)
        fields = [x for x in cls.members.values() if x.is_attribute and "instance-attribute" in x.labels]
        lines = []
        for field in fields:
            line = field.lineno or 0
            words = []
            while line in comments and (not words or comments[line][0]):
                words.append(comments[line][1])
                line += 1
            if words:
                lines.append(f"    {field.name}: {' '.join(words)}")
        if lines and cls.docstring is not None:
            cls.docstring.value = "\n".join([cls.docstring.value, "", "Attributes:", *lines])


def _comments(path: Path) -> dict[int, tuple[bool, str]]:
    """Return line -> (whether the line has only the comment, the comment's text)."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0]] = (alone, token.string.lstrip("# "))
    return found
