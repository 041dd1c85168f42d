"""From a trained network to exact hardware: one call each for a project, for an emulator, and for the graph itself.

    project = to_hls(model, "build/jet", input_shape=(16,), backend="vitis", reuse_factor=1)
    emulator = emulate(model, input_shape=(16,))
    y, layers = emulator.predict(x), emulator.trace(x)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from compress.fixed import FixedPoint
    from export.backend import Project
    from export.emulation.emulator import Emulator
    from export.frontends.precision import Precision
    from export.frontends.torch import Shapes
    from export.ir import Graph
    from export.passes.choose_sparse import Strategies
    from export.streams.access import Io

__all__ = ["emulate", "to_graph", "to_hls"]


def to_graph(
    model: nn.Module | Graph,
    input_shape: Shapes | None = None,
    *,
    name: str = "network",
    input_format: FixedPoint | None = None,
    precision: Precision | Mapping[str, Precision] | None = None,
    reuse_factor: int | Mapping[str, int] = 1,
    strategy: Strategies = "auto",
    backend: str = "emulator",
) -> Graph:
    """The optimised integer graph of a trained module in eval mode, or of a graph that a frontend made.

    ``input_shape`` is that of one sample, or a list of one for each input. ``input_format`` is needed where the model
    does not quantize its input; ``precision`` where it has plain float layers. ``reuse_factor`` is one for all layers,
    or one by layer name (``export.costs.balance`` suggests them), and so is ``strategy``: what becomes of the zeros
    among the weights of a layer (``export.passes.choose_sparse``). ``backend`` decides which passes run. Raises
    ValueError, naming the layer and the cure, for whatever has no exact integer form.
    """
    from export.backends import find_backend
    from export.ir import Graph
    from export.passes import lay_out, run

    if not isinstance(model, Graph):
        from export.frontends.torch import lower

        if input_shape is None:
            raise ValueError("input_shape is missing: the shape of one sample, e.g. input_shape=(16,)")
        model = lower(model, input_shape, name=name, input_format=input_format, precision=precision)
    return run(model, (*find_backend(backend).passes, lay_out(reuse_factor, strategy)))


def to_hls(
    model: nn.Module | Graph,
    out: str | Path,
    input_shape: Shapes | None = None,
    *,
    backend: str = "vitis",
    name: str = "network",
    input_format: FixedPoint | None = None,
    precision: Precision | Mapping[str, Precision] | None = None,
    reuse_factor: int | Mapping[str, int] = 1,
    strategy: Strategies = "auto",
    io: Io | str = "parallel",
    overwrite: bool = False,
    **options: Any,
) -> Project:
    """Write the HLS project of ``model`` into the folder ``out`` and return it.

    Its ``cautions`` name the layers that ask for more at a time than an HLS tool may bear, each with the cure.

    With ``io`` "parallel" a sample comes in at once and layers hand on arrays; with "stream" it comes in position by
    position, and layers are processes that hand on the channels of one position at a time. ``tmr=True``, or names of
    layers, stores their constants three times behind a voter; ``weights="reloadable"`` has them loaded at run time. The
    other ``options`` are the backend's own, as its module in ``export/backends`` lists them; all have ``clock_ns`` and
    ``vectors``, samples of shape (n, *input_shape) for the test bench, and most a ``part``. A folder that holds
    anything else is refused; ``overwrite`` replaces an earlier project, never anything that is not one.
    """
    from export.backends import find_backend
    from export.costs.cautions import cautions

    target = find_backend(backend)
    graph = to_graph(
        model,
        input_shape,
        name=name,
        input_format=input_format,
        precision=precision,
        reuse_factor=reuse_factor,
        strategy=strategy,
        backend=backend,
    )
    project = replace(target.render(graph, io=io, **options), cautions=cautions(graph, io))
    project.write(out, overwrite=overwrite)
    return project


def emulate(
    model: nn.Module | Graph,
    input_shape: Shapes | None = None,
    *,
    name: str = "network",
    input_format: FixedPoint | None = None,
    precision: Precision | Mapping[str, Precision] | None = None,
    reuse_factor: int | Mapping[str, int] = 1,
    strategy: Strategies = "auto",
    io: Io | str = "parallel",
    threads: int | None = None,
) -> Emulator:
    """Compile the C++ of ``model`` (or take it from the cache) and return it as something to call from Python.

    ``io`` is that of :func:`to_hls`; the bits are the same. ``threads`` None uses every core the process may use.
    """
    from export.emulation.emulator import Emulator

    graph = to_graph(
        model,
        input_shape,
        name=name,
        input_format=input_format,
        precision=precision,
        reuse_factor=reuse_factor,
        strategy=strategy,
    )
    return Emulator(graph, io=io, threads=threads)
