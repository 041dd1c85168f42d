"""One spelling for the directives of every tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from cxx import Flavour, try_build

DIRECTIVES = """BEGIN
QAPSULE_UNROLLED(inputs) QAPSULE_UNROLL
QAPSULE_PIPELINED(steps, 3) QAPSULE_PIPELINE(3)
QAPSULE_INLINE QAPSULE_DATAFLOW
QAPSULE_PARTITION(w, 0) QAPSULE_RESHAPE(w, 2) QAPSULE_PACK(w)
"""
XILINX = """inputs: #pragma HLS UNROLL
steps: #pragma HLS PIPELINE II = 3
#pragma HLS INLINE #pragma HLS DATAFLOW
#pragma HLS ARRAY_PARTITION variable = w complete dim = 0 #pragma HLS ARRAY_RESHAPE variable = w complete dim = 2
"""
TOOLS = {
    "__VITIS_HLS__": XILINX + "#pragma HLS AGGREGATE variable = w compact = bit",
    "__VIVADO_HLS__": XILINX + "#pragma HLS DATA_PACK variable = w",
    "__SYNTHESIS__": "#pragma hls_unroll yes inputs: #pragma hls_pipeline_init_interval 3 steps:",
    "QAPSULE_CATAPULT": "#pragma hls_unroll yes inputs: #pragma hls_pipeline_init_interval 3 steps:",
    "__INTELFPGA_COMPILER__": "inputs: #pragma unroll steps: #pragma ii 3",
    "ORDINARY": "",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_sees_its_own_directives(tool: str, tmp_path: Path) -> None:
    source = '#include "qapsule/pragmas.h"\n' + DIRECTIVES
    done = try_build(source, tmp_path / "pragmas", Flavour("none", ""), "-E", "-P", f"-D{tool}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pragmas").read_text().split("BEGIN")[1].split() == TOOLS[tool].split()
