"""What a backend is: a value that turns a graph into the text of a project.

Rendering ends in memory, in a :class:`Project`; :meth:`Project.write` is a separate last act that either happens
completely or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.fixed import FixedPoint
from export.firmware.design import Firmware
from export.firmware.storage import Delivery, Weights
from export.firmware.tables import ConstantType, IndexType, PacketType, SignalType, StreamType, TypeName
from export.ir import Graph
from export.ops import Modes
from export.passes import PIPELINE, Pass
from export.streams.access import Io

if TYPE_CHECKING:
    from jinja2 import Environment

#: The file by which a folder of ours is known.
MANIFEST = "qapsule.json"


class BackendError(ValueError):
    """A backend, an option or a folder that cannot be used. The message names it and what can."""


@dataclass(frozen=True)
class StreamSpelling:
    """How a vendor writes streams.

    ``preamble`` is what the file of types includes for them; ``headers`` are those of ``hls_lib/qapsule`` among it.
    """

    preamble: tuple[str, ...]
    spell: Callable[[StreamType], str]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spelling:
    """How a vendor writes types. ``preamble`` is what the file of types begins with. Not all have ``streams``."""

    preamble: Callable[[Graph], tuple[str, ...]]
    signal: Callable[[FixedPoint, Modes | None], str]
    constant: Callable[[FixedPoint], str]
    index: Callable[[int], str]
    streams: StreamSpelling | None = None

    def spell(self, kind: TypeName | PacketType | StreamType) -> str:
        match kind:
            case SignalType():
                return self.signal(kind.format, kind.modes)
            case ConstantType():
                number = self.constant(kind.format)
                return f"qapsule::{kind.digit.name}<{number}, {kind.digit.frac}>" if kind.digit else number
            case IndexType():
                return self.index(kind.bits)
            case PacketType():
                return f"qapsule::packet<{kind.element}, {kind.channels}>"
            case StreamType():
                assert self.streams is not None, "a backend without streams has refused before"
                return self.streams.spell(kind)


@dataclass(frozen=True)
class NoOptions:
    """The options of a backend that has none."""


@dataclass(frozen=True)
class Backend:
    """``files`` maps output path to template.

    In a path ``{name}`` is the design; a path with ``{layer}`` stands for one file per layer with constants, rendered
    with its ``step``, one with ``{port}`` for a file per ``port``, one with ``{weights}`` for one if they are loaded.

    ``headers`` are those of ``hls_lib/qapsule`` that the templates include beside the kernels'. ``ios`` are the ways of
    taking data that the templates arrange, of which streams need a spelling; ``delivery`` is how weights come that are
    loaded, None if they arrange none. ``context`` computes what the templates need beyond the firmware (Python
    computes, templates arrange); ``storage`` among it has the memory of each table that is to lie in one.
    """

    name: str
    files: Mapping[str, str]
    spelling: Spelling
    headers: tuple[str, ...] = ()
    ios: tuple[Io, ...] = (Io.PARALLEL,)
    delivery: Delivery | None = None
    passes: tuple[Pass, ...] = PIPELINE
    options: type[Any] = NoOptions
    context: Callable[[Firmware, Any], Mapping[str, Any]] = field(default=lambda firmware, options: {})

    def parse(self, given: Mapping[str, Any]) -> Any:
        """The options as a value. Raises BackendError for one that the backend does not know."""
        known = [f.name for f in dataclasses.fields(self.options)]
        for name in given:
            if name not in known:
                offer = f"it knows {', '.join(known)}" if known else "it has none"
                raise BackendError(f"the backend {self.name} has no option {name!r}; {offer}")
        return self.options(**given)

    def render(
        self,
        graph: Graph,
        *,
        io: Io | str = Io.PARALLEL,
        tmr: bool | Collection[str] = False,
        weights: Weights | str = Weights.CONSTANT,
        **options: Any,
    ) -> Project:
        """The project for a graph on which ``passes`` have run.

        ``tmr`` has the constants of all layers, or of those it names, stored three times behind a voter. With
        ``weights="reloadable"`` they are arguments of the top-level function.
        """
        settings = self.parse(options)
        way, reloadable = self._supported(io), Weights.of(weights) is Weights.RELOADABLE
        if reloadable and self.delivery is None:
            raise BackendError(
                f"the backend {self.name} has no weights='reloadable'; use the backend vitis or catapult, or constant "
                "weights"
            )
        firmware = Firmware(graph, way, tmr, self.delivery if reloadable else None)
        preamble = self.spelling.preamble(graph)
        headers = (*firmware.headers, *self.headers)
        if firmware.network and self.spelling.streams:
            preamble += ('#include "qapsule/packet.h"', *self.spelling.streams.preamble)
            headers += ("packet.h", *self.spelling.streams.headers)
        numbers = [kind for step in firmware for kind in step.types]
        if any(isinstance(kind, ConstantType) and kind.digit for kind in numbers):
            preamble += ('#include "qapsule/digits.h"',)
            headers += ("digits.h",)
        common = {
            "firmware": firmware,
            "preamble": preamble,
            "storage": {},
            "types": [(kind.name, self.spelling.spell(kind)) for kind in (*numbers, *firmware.carriers)],
            **self.context(firmware, settings),
        }
        text = {f"firmware/qapsule/{header}": source for header, source in _headers(*headers).items()}
        for path, template in self.files.items():
            for place, subject in _places(path, firmware):
                text[place] = _environment().get_template(template).render(common, **subject)
        return Project(firmware.name, self.name, text)

    def _supported(self, io: Io | str) -> Io:
        wanted = Io.of(io)
        if wanted not in self.ios:
            known = " or ".join(f"io={each.value!r}" for each in self.ios)
            raise BackendError(f"the backend {self.name} has no io={wanted.value!r}; use {known}")
        return wanted


def _places(path: str, firmware: Firmware) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files that a path with placeholders stands for, and what each of them is about."""
    if "{layer}" in path:
        for step in firmware.layers:
            yield path.format(name=firmware.name, layer=step.y.name), {"step": step}
    elif "{port}" in path:
        for port in firmware.ports:
            yield path.format(name=firmware.name, port=port.name), {"port": port}
    elif "{weights}" in path:
        if firmware.arguments:
            yield path.format(weights="weights"), {}
    else:
        yield path.format(name=firmware.name), {}


#: The C++ that is the same bytes in every backend, but for ``types.h``, which only looks the same.
FIRMWARE: Mapping[str, str] = {
    "firmware/{name}.h": "firmware/top.h.j2",
    "firmware/{name}.cpp": "firmware/top.cpp.j2",
    "firmware/types.h": "firmware/types.h.j2",
    "firmware/weights/{layer}.h": "firmware/weights.h.j2",
}


@dataclass(frozen=True)
class Project:
    """The files of a design by relative path, in memory.

    ``cautions`` say where it asks for more at a time than an HLS tool may bear (:mod:`export.costs.cautions`).
    """

    name: str
    backend: str
    files: Mapping[str, str]
    cautions: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all paths and bytes."""
        total = hashlib.sha256()
        for path in sorted(self.files):
            content = self.files[path].encode()
            total.update(f"{path}\0{len(content)}\0".encode() + content)
        return total.hexdigest()

    @property
    def manifest(self) -> str:
        about = {"project": self.name, "backend": self.backend, "digest": self.digest, "files": sorted(self.files)}
        return json.dumps(about, indent=2) + "\n"

    def write(self, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write everything into ``folder``, which is new, empty, or holds this very project already.

        With ``overwrite`` a folder that holds another project of ours is replaced. The folder appears complete or not
        at all. Raises BackendError, and leaves everything as it was, where something else is in the way.
        """
        target = Path(folder).absolute()
        if self._is_in(target):
            return target
        occupied = target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir())))
        if occupied and not (target / MANIFEST).is_file():
            raise BackendError(f"{target} holds something else; give a folder that is new or empty")
        if occupied and not overwrite:
            raise BackendError(f"{target} holds another project; give a new folder, or ask for it to be overwritten")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _beside(target) as fresh:
            for path, content in {**self.files, MANIFEST: self.manifest}.items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(content.encode())
            _replace(target, fresh)
        return target

    def _is_in(self, folder: Path) -> bool:
        expected = {**self.files, MANIFEST: self.manifest}
        return all((folder / p).is_file() and (folder / p).read_bytes() == c.encode() for p, c in expected.items())


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A scratch folder on the same file system, gone afterwards unless it was moved away."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fresh.chmod(0o777 & ~_umask())
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _replace(target: Path, fresh: Path) -> None:
    """Put ``fresh`` in the place of ``target``; if that fails, ``target`` is back."""
    if not target.exists() or not any(target.iterdir()):
        os.rename(fresh, target)
        return
    with _beside(target) as aside:
        os.rename(target, aside / "old")
        try:
            os.rename(fresh, target)
        except BaseException:
            os.rename(aside / "old", target)
            raise


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # a cached emulator has no time to import it

    templates = package_files("export") / "templates"
    return Environment(
        loader=FunctionLoader(lambda name: templates.joinpath(*name.split("/")).read_text(encoding="utf-8")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _headers(*roots: str) -> dict[str, str]:
    """Headers of ``hls_lib/qapsule`` with everything that they include, sorted."""
    library = package_files("hls_lib") / "qapsule"
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = library.joinpath(*name.split("/")).read_text(encoding="utf-8")
            beside = posixpath.dirname(name)
            included = re.findall(r'^#include "([^"]+)"', found[name], flags=re.MULTILINE)
            waiting += [posixpath.normpath(posixpath.join(beside, each)) for each in included]
    return dict(sorted(found.items()))
