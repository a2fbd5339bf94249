"""An extension of griffe: a dataclass's fields are documented by the comments behind them.

wmplay writes a field's shape beside it (``action: Tensor  # [B, H, A]``); the reference shows it as it shows
arguments. Comments on the lines below a field belong to it, too.
"""

import io
import tokenize
from pathlib import Path
from typing import Any

from griffe import Class, Extension


class FieldComments(Extension):
    """Adds an ``Attributes:`` section to the docstring of each dataclass."""

    def on_class_members(self, *, cls: Class, **kwargs: Any) -> None:
        """Called by griffe when it has read a class."""
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
    """line -> (whether the comment is all there is on it, its text)."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0]] = (alone, token.string.lstrip("# "))
    return found
