from collections.abc import Sequence
from typing import Any

from numpy import dtype as DType
from numpy.typing import NDArray

class Design:
    def __init__(self, path: str) -> None: ...
    def run(
        self,
        inputs: Sequence[NDArray[Any]],
        tensors: Sequence[tuple[NDArray[Any] | None, float]],
        samples: int,
        threads: int,
    ) -> bool: ...

def empty(shape: Sequence[int], dtype: DType[Any]) -> NDArray[Any]: ...
