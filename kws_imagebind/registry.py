"""Names to things: what this package brings, what installed packages add, and what a user names by file or module.

One mechanism serves encoders, data sets, tasks and read-outs. Nothing is imported before it is asked for, so a list of
what exists costs no time, and a package that is broken only disturbs those who use it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

BUNDLED = "kws-imagebind"


def to_install(package: str, extra: str) -> str:
    """How to get an optional package, as the end of a message.

    >>> to_install("matplotlib", "plots")
    "install matplotlib, or the extra 'plots' of kws-imagebind"
    """
    return f"install {package}, or the extra '{extra}' of {BUNDLED}"


@dataclass(frozen=True)
class Entry:
    """One name and what stands behind it.

    Attributes:
        name: what users write.
        description: one line; of a plug-in, the summary of its package.
        target: "module:object", imported when it is first used.
        source: where it comes from: this package, or the name and version of the one that adds it.
        takes_argument: whether a name may go on after a colon, as in "clap:laion/larger_clap_general".
        thing: the object itself, where it is at hand without an import.
    """

    name: str
    description: str
    target: str
    source: str = BUNDLED
    takes_argument: bool = False
    thing: Any = None


@dataclass(frozen=True)
class Found:
    """What a user's text stands for.

    Attributes:
        thing: the object.
        name: for reports and messages.
        argument: what stood after the colon of a registered name; None where nothing did.
    """

    thing: Any
    name: str
    argument: str | None = None


class Registry(Mapping[str, Entry]):
    """Entries by name: the bundled ones first, then those of installed packages in alphabetical order.

    A plug-in is an entry point of `group`. It cannot take the name of a bundled entry. Besides registered names,
    `find` understands "FILE.py:NAME" and "module:NAME".

    Args:
        kind: what is registered, for messages: "encoder".
        group: of entry points: "kws_imagebind.encoders".
        entries: the bundled ones.
        error: what `find` raises; its message is one sentence.
        remedy: how to see what exists.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        entries: Iterable[Entry],
        error: type[Exception],
        remedy: str = "'kws-imagebind list' shows all",
    ) -> None:
        self.kind, self.group, self._error, self._remedy = kind, group, error, remedy
        self._bundled = {entry.name: entry for entry in entries}

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        added = sorted(entry_points(group=self.group), key=lambda point: point.name)
        plugins = {point.name: _entry(point) for point in added if point.name not in self._bundled}
        return {**self._bundled, **plugins}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, text: str) -> Found:
        """The object that a text names.

        Raises:
            The registry's error: nothing has that name, or it cannot be imported.
        """
        if text in self:
            entry = self[text]
            return Found(entry.thing or self._imported(entry.target, text), text)
        before, colon, after = text.partition(":")
        if colon and before in self and self[before].takes_argument:
            return Found(self._imported(self[before].target, before), text, after)
        place, colon, name = text.rpartition(":")
        if colon and place.endswith(".py"):
            return Found(self._attribute(self._file(Path(place)), name, text), text)
        if colon and before not in self and all(part.isidentifier() for part in place.split(".")):
            return Found(self._imported(f"{place}:{name}", text), text)
        if colon and before in self:
            raise self._error(f"{self.kind} '{before}' takes nothing after a colon, and '{text}' has '{after}' there")
        hint = did_you_mean(text, self)
        raise self._error(
            f"unknown {self.kind} '{text}'{hint}; available: {', '.join(self)}, or your own as FILE.py:NAME "
            f"({self._remedy})"
        )

    def _imported(self, target: str, text: str) -> Any:
        module, _, name = target.partition(":")
        try:
            return self._attribute(importlib.import_module(module), name, text)
        except ImportError as error:
            raise self._error(f"{self.kind} '{text}' cannot be imported: {error}{_where(self.get(text))}") from error

    def _file(self, path: Path) -> ModuleType:
        """A module made of a file, under a name that no other file has."""
        if not path.is_file():
            raise self._error(f"{self.kind} '{path}': there is no such file; expected FILE.py:NAME")
        name = f"_kws_imagebind_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise self._error(f"{self.kind} '{path}' cannot be imported; expected a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # a fault in the user's own file, told with its line
            del sys.modules[name]
            raise self._error(f"{self.kind} '{path}' cannot be imported: {_fault(error, path)}") from error
        return module

    def _attribute(self, module: ModuleType, name: str, text: str) -> Any:
        try:
            return attrgetter(name)(module)
        except AttributeError:
            public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
            raise self._error(
                f"{self.kind} '{text}': '{module.__name__}' has no '{name}'; it has {', '.join(public[:8]) or 'none'}"
            ) from None


def accepts(make: Callable[..., Any], option: str) -> bool:
    """Whether something that is called takes an option of this name.

    >>> accepts(lambda device: device, "device"), accepts(lambda device: device, "precision")
    (True, False)
    """
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # some built-in callables do not say
        return False
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return anything or option in parameters


def call_with(make: Callable[..., Any], **options: Any) -> Any:
    """Calls something with those of the options that it accepts, so that a plug-in need not know them all.

    >>> call_with(lambda device: device, device="cpu", precision="auto")
    'cpu'
    """
    return make(**{option: value for option, value in options.items() if accepts(make, option)})


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """What to add to the message on an unknown name; nothing, where no name that exists is near.

    >>> did_you_mean("phonebin", ["phonebind", "imagebind"]), did_you_mean("lamp", ["phonebind"])
    (' (did you mean phonebind?)', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def _entry(point: EntryPoint) -> Entry:
    package = point.dist
    summary = package.metadata["Summary"] if package and "Summary" in package.metadata else ""
    source = f"{package.name} {package.version}" if package else "an installed package"
    return Entry(point.name, summary or "a plug-in without a description", point.value, source, takes_argument=True)


def _where(entry: Entry | None) -> str:
    return f" (it comes from {entry.source})" if entry and entry.source != BUNDLED else ""


def _fault(error: Exception, path: Path) -> str:
    """An error of a user's file in one line."""
    own = [each.lineno for each in extract_tb(error.__traceback__) if Path(each.filename).resolve() == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
    return f"{type(error).__name__}: {error}" + (f", line {line}" if line else "")
