"""Modules and loss terms by observation key, where a key may be any text: ``images.top``, ``forward``, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

OF_A_LOSS = frozenset({"code", "continuation", "kl", "reward", "total"})  # loss terms of no observation
PREFIX = "observation."


class ModulesByKey(nn.Module):
    """A dict of modules with any text as key, unlike ``nn.ModuleDict``.

    Weights are named by their keys. A key's characters ``.`` and ``%`` are percent-encoded; so is the first
    character of a key that is an attribute of modules (``type``, ``forward``). The empty key becomes ``%``.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        self._names |= {key: self._name(key) for key in modules}
        for key, module in modules.items():
            self.add_module(self._names[key], module)

    def __getitem__(self, key: str) -> nn.Module:
        """Return a key's module."""
        module = self._modules[self._names[key]]
        assert module is not None
        return module

    def __contains__(self, key: object) -> bool:
        """Return whether a module has this key."""
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in their order."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of modules."""
        return len(self._names)

    def _name(self, key: str) -> str:
        name = key.replace("%", "%25").replace(".", "%2E") or "%"
        return f"%{ord(name[0]):02X}{name[1:]}" if name in dir(self) else name


def term(key: str) -> str:
    """Return the name of an observation's term in a loss and its metrics.

    The name is the key itself, unless a term of another kind has that name (for example ``reward``).
    """
    return PREFIX + key if key in OF_A_LOSS or key.startswith(PREFIX) else key
