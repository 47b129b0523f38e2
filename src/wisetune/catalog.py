"""Catalogs: a package in which each module is one entry, found by file name; and classes outside wisetune, by module and name."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
import re
import sys
import types
from collections.abc import Mapping
from typing import Any, Generic, TypeGuard, TypeVar

from wisetune.errors import UsageError, did_you_mean
from wisetune.spec import NOTHING, Spec, address
from wisetune.spelling import dashed

S = TypeVar("S", bound=Spec)
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class NotImported(UsageError):
    """A file names a class from outside wisetune, whose module nobody has imported."""


class Catalog(Generic[S]):
    """The entries of one package: a module ``wise_ft.py`` holds the entry ``wise-ft``, a subclass of ``base``.

    Modules whose names start with an underscore, and those named in ``machinery``, are not entries. Nothing is imported before
    an entry is asked for. ``my_lab.tuning:Mine`` names an entry outside wisetune: the class ``Mine`` of the module ``my_lab.tuning``.
    """

    def __init__(self, noun: str, package: str, base: type[S], machinery: tuple[str, ...] = ()) -> None:
        self.noun, self.package, self.base, self.machinery = noun, package, base, machinery

    def names(self) -> list[str]:
        """All entries, sorted, found by file name without importing them."""
        path = importlib.import_module(self.package).__path__
        found = [module.name for module in pkgutil.iter_modules(path)]
        return sorted(dashed(name) for name in found if not name.startswith("_") and name not in self.machinery)

    def entry(self, name: str) -> type[S]:
        """The class behind a name.

        Raises:
            UsageError: no such entry; the message lists what there is.
        """
        if ":" in name:
            return self._outside(name)
        if name not in self.names():
            hint = did_you_mean(name, self.names())
            hint += " One of your own is spelled my_package.module:Class." if "." in name else ""
            before, _, after = name.partition(",")
            if before in self.names() and "=" in after:
                hint = f" Options stand behind a colon: {before}:{after}."
            raise UsageError(f"there is no {self.noun} '{name}'.{hint} There are: {', '.join(self.names())}.")
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == module.__name__ and value.name == name:
                return value
        raise UsageError(f"module {module.__name__} defines no {self.noun} named '{name}'; set name = \"{name}\" on its class.")

    def _outside(self, name: str) -> type[S]:
        module_name, _, class_name = name.partition(":")
        module = import_outside(module_name, f"{self.noun} '{name}'")
        value = functools.reduce(lambda inside, part: getattr(inside, part, None), class_name.split("."), module)
        if value is None:
            mine = [known for known, kind in vars(module).items() if self._fits(kind) and kind.__module__ == module_name]
            raise UsageError(f"the module '{module_name}' has no class '{class_name}'. Of this kind it has: {', '.join(mine) or 'none'}.")
        if not self._fits(value):
            raise UsageError(f"'{name}' is not a {self.noun}: it must be a subclass of {self.base.__module__}.{self.base.__name__}.")
        if value.name != address(value):
            raise UsageError(
                f"'{name}' calls itself '{value.name}', by which it cannot be found again. Leave name out of the class: outside wisetune "
                f"a {self.noun} is called by its module and class."
            )
        return value

    def _fits(self, value: object) -> TypeGuard[type[S]]:
        return isinstance(value, type) and issubclass(value, self.base)

    def divide(self, text: str) -> tuple[str, str]:
        """A spelling as the entry's name (``module:Class`` outside wisetune, else without a colon) and its options; nothing is imported."""
        name, _, options = text.strip().partition(":")
        inside, _, rest = options.partition(":")
        if name not in self.names() and _CLASS.fullmatch(inside) and ("." in name or (inside[0].isupper() and _is_module(name))):
            return f"{name}:{inside}", rest
        return name, options

    def parse(self, text: str, otherwise: Mapping[str, Any] = NOTHING) -> S:
        """From its spelling to the value; ``otherwise`` as in ``Spec.from_options``.

        Raises:
            UsageError: unknown name or option, wrong kind of value.
        """
        name, options = self.divide(text)
        return self.entry(name).from_options(options, otherwise=otherwise)

    def parse_imported(self, text: str) -> S:
        """As ``parse``, of a text in a file (``filed``). A file must not choose what is imported: a class from outside has to be there already."""
        name, options = self.divide(text)
        module, colon, _ = name.partition(":")
        if colon and module not in sys.modules:
            raise NotImported(
                f"its {self.noun} is '{name}', from outside wisetune, and a file imports nothing by itself. If you trust it, import {module} "
                f"first; on the command line: wisetune --import {module} ..."
            )
        return self.entry(name).from_options(options, filed=True)


def _is_module(name: str) -> bool:
    return name in sys.modules or (name.isidentifier() and importlib.util.find_spec(name) is not None)


def import_outside(name: str, asked: str) -> types.ModuleType:
    """A module from outside wisetune; ``asked`` says what wants it.

    Raises:
        UsageError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:  # the last two: a name such as ./this is no module's
        raise UsageError(
            f"{asked}: the module '{name}' cannot be imported ({error}). Install it, or name the folder in which it lies in PYTHONPATH."
        ) from None
