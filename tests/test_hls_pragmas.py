"""One spelling for the directives of every tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from cxx import Flavour, try_build

DIRECTIVES = """BEGIN
QAPSULE_UNROLLED(inputs) QAPSULE_UNROLL
QAPSULE_PIPELINED(steps, 3) QAPSULE_PIPELINE(3)
QAPSULE_INLINE QAPSULE_DATAFLOW
QAPSULE_PARTITION(w, 0) QAPSULE_RESHAPE(w, 2) QAPSULE_INDEPENDENT(w) QAPSULE_PACK(w)
QAPSULE_PROCESS QAPSULE_CHANNEL QAPSULE_FLOW(2) QAPSULE_FIFO(x, 5) QAPSULE_STORAGE(w, ROM_1P, BRAM)
"""
XILINX = """inputs: #pragma HLS UNROLL
steps: #pragma HLS PIPELINE II = 3
#pragma HLS INLINE #pragma HLS DATAFLOW
#pragma HLS ARRAY_PARTITION variable = w complete dim = 0 #pragma HLS ARRAY_RESHAPE variable = w complete dim = 2
#pragma HLS DEPENDENCE variable = w inter false
"""
FIFO = "#pragma HLS STREAM variable = x depth = 5"
BLOCKS = " #pragma hls_design static"
TOOLS = {
    "__VITIS_HLS__": f"""{XILINX}
#pragma HLS AGGREGATE variable = w compact = bit #pragma HLS PIPELINE II = 2 style = frp {FIFO}
#pragma HLS BIND_STORAGE variable = w type = ROM_1P impl = BRAM""",
    "__VIVADO_HLS__": f"""{XILINX}
#pragma HLS DATA_PACK variable = w #pragma HLS PIPELINE II = 2 #pragma HLS DATA_PACK variable = x {FIFO}
#pragma HLS RESOURCE variable = w core = ROM_1P_BRAM""",
    "__SYNTHESIS__": "#pragma hls_unroll yes inputs: #pragma hls_pipeline_init_interval 3 steps:" + BLOCKS,
    "QAPSULE_CATAPULT": "#pragma hls_unroll yes inputs: #pragma hls_pipeline_init_interval 3 steps:" + BLOCKS,
    "__INTELFPGA_COMPILER__": "inputs: #pragma unroll steps: #pragma ii 3",
    "ORDINARY": "",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_sees_its_own_directives(tool: str, tmp_path: Path) -> None:
    source = '#include "qapsule/pragmas.h"\n' + DIRECTIVES
    done = try_build(source, tmp_path / "pragmas", Flavour("none", ""), "-E", "-P", f"-D{tool}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pragmas").read_text().split("BEGIN")[1].split() == TOOLS[tool].split()
