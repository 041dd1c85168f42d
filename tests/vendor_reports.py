"""Reports as the vendors' tools write them, of a design that never was: small, written by hand, one of each format."""

from __future__ import annotations

VIVADO_HLS_XML = """\
<profile>
<ReportVersion>
<Version>2019.2</Version>
</ReportVersion>
<UserAssignments>
<unit>ns</unit>
<ProductFamily>virtexuplus</ProductFamily>
<Part>xcvu9p-flga2104-2L-e</Part>
<TopModelName>tiny</TopModelName>
<TargetClockPeriod>5.00</TargetClockPeriod>
<ClockUncertainty>0.62</ClockUncertainty>
</UserAssignments>
<PerformanceEstimates>
<PipelineType>function</PipelineType>
<SummaryOfTimingAnalysis>
<unit>ns</unit>
<EstimatedClockPeriod>4.37</EstimatedClockPeriod>
</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency>
<unit>clock cycles</unit>
<Best-caseLatency>11</Best-caseLatency>
<Average-caseLatency>12</Average-caseLatency>
<Worst-caseLatency>13</Worst-caseLatency>
<Best-caseRealTimeLatency>55.000 ns</Best-caseRealTimeLatency>
<Average-caseRealTimeLatency>60.000 ns</Average-caseRealTimeLatency>
<Worst-caseRealTimeLatency>65.000 ns</Worst-caseRealTimeLatency>
<Interval-min>1</Interval-min>
<Interval-max>2</Interval-max>
</SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources>
<BRAM_18K>4</BRAM_18K>
<DSP48E>29</DSP48E>
<FF>1001</FF>
<LUT>2002</LUT>
<URAM>0</URAM>
</Resources>
<AvailableResources>
<BRAM_18K>4320</BRAM_18K>
<DSP48E>6840</DSP48E>
<FF>2364480</FF>
<LUT>1182240</LUT>
<URAM>960</URAM>
</AvailableResources>
</AreaEstimates>
</profile>
"""

VITIS_HLS_XML = (
    VIVADO_HLS_XML.replace("2019.2", "2023.1")
    .replace("DSP48E", "DSP")
    .replace("<ClockUncertainty>0.62</ClockUncertainty>", "<ClockUncertainty>1.35</ClockUncertainty>")
    .replace("</UserAssignments>", "<FlowTarget>vivado</FlowTarget>\n</UserAssignments>")
)

VITIS_HLS_TEXT = """\


================================================================
== Vitis HLS Report for 'tiny'
================================================================
* Date:           Sun Nov 22 12:00:00 2026

* Version:        2024.2 (Build 1 on Nov  1 2024)
* Project:        tiny_prj
* Solution:       solution1 (Vivado IP Flow Target)
* Product family: virtexuplus
* Target device:  xcvu9p-flga2104-2L-e


================================================================
== Performance Estimates
================================================================
+ Timing:
    * Summary:
    +--------+---------+----------+------------+
    |  Clock |  Target | Estimated| Uncertainty|
    +--------+---------+----------+------------+
    |ap_clk  |  5.00 ns|  3.921 ns|     1.35 ns|
    +--------+---------+----------+------------+

+ Latency:
    * Summary:
    +---------+---------+----------+----------+-----+-----+----------+
    |  Latency (cycles) |  Latency (absolute) |  Interval | Pipeline |
    |   min   |   max   |    min   |    max   | min | max |   Type   |
    +---------+---------+----------+----------+-----+-----+----------+
    |       37|       41|  0.185 us|  0.205 us|   16|   17|  dataflow|
    +---------+---------+----------+----------+-----+-----+----------+

    + Detail:
        * Instance:
        +------------------+----------------+---------+---------+----------+----------+-----+-----+---------+
        |                  |                |  Latency (cycles) |  Latency (absolute) |  Interval | Pipeline|
        |     Instance     |     Module     |   min   |   max   |    min   |    max   | min | max |   Type  |
        +------------------+----------------+---------+---------+----------+----------+-----+-----+---------+
        |dense_reuse_16_U0 |dense_reuse_16  |       18|       18| 90.000 ns| 90.000 ns|   16|   16|       no|
        |cast_U0           |cast            |        0|        0|      0 ns|      0 ns|    1|    1|      yes|
        +------------------+----------------+---------+---------+----------+----------+-----+-----+---------+

        * Loop:
        N/A


================================================================
== Utilization Estimates
================================================================
* Summary:
+-----------------+---------+------+--------+--------+-----+
|       Name      | BRAM_18K|  DSP |   FF   |   LUT  | URAM|
+-----------------+---------+------+--------+--------+-----+
|DSP              |        -|     -|       -|       -|    -|
|Instance         |        2|    10|     300|     700|    -|
|Register         |        -|     -|       3|       -|    -|
+-----------------+---------+------+--------+--------+-----+
|Total            |        2|    10|     303|     700|    0|
+-----------------+---------+------+--------+--------+-----+
|Available SLR    |     1440|  2280|  788160|  394080|  320|
+-----------------+---------+------+--------+--------+-----+
|Available        |     4320|  6840| 2364480| 1182240|  960|
+-----------------+---------+------+--------+--------+-----+
|Utilization (%)  |       ~0|    ~0|      ~0|      ~0|    0|
+-----------------+---------+------+--------+--------+-----+

+ Detail:
    * Instance:
    +------------------+----------------+---------+----+-----+-----+-----+
    |     Instance     |     Module     | BRAM_18K| DSP|  FF | LUT | URAM|
    +------------------+----------------+---------+----+-----+-----+-----+
    |cast_U0           |cast            |        0|   0|    2|   11|    0|
    |dense_reuse_16_U0 |dense_reuse_16  |        2|  10|  298|  689|    0|
    +------------------+----------------+---------+----+-----+-----+-----+
    |Total             |                |        2|  10|  300|  700|    0|
    +------------------+----------------+---------+----+-----+-----+-----+

    * Memory:
    N/A
"""

#: Times without a unit, no absolute latency, no URAM.
VIVADO_HLS_2018_TEXT = """\
================================================================
== Vivado HLS Report for 'tiny'
================================================================
* Date:           Sun Nov 25 12:00:00 2018

* Version:        2018.2 (Build 1 on Thu Jun 14 20:20:41 MDT 2018)
* Project:        tiny_prj
* Solution:       solution1
* Product family: zynq
* Target device:  xc7z020clg400-1


================================================================
== Performance Estimates
================================================================
+ Timing (ns):
    * Summary:
    +--------+-------+----------+------------+
    |  Clock | Target| Estimated| Uncertainty|
    +--------+-------+----------+------------+
    |ap_clk  |  10.00|      8.74|        1.25|
    +--------+-------+----------+------------+

+ Latency (clock cycles):
    * Summary:
    +-----+-----+-----+-----+---------+
    |  Latency  |  Interval | Pipeline|
    | min | max | min | max |   Type  |
    +-----+-----+-----+-----+---------+
    |    ?|    ?|    ?|    ?|   none  |
    +-----+-----+-----+-----+---------+

    + Detail:
        * Instance:
        N/A

        * Loop:
        N/A


================================================================
== Utilization Estimates
================================================================
* Summary:
+-----------------+---------+-------+--------+-------+
|       Name      | BRAM_18K| DSP48E|   FF   |  LUT  |
+-----------------+---------+-------+--------+-------+
|DSP              |        -|      -|       -|      -|
+-----------------+---------+-------+--------+-------+
|Total            |        0|      1|      32|     54|
+-----------------+---------+-------+--------+-------+
|Available        |      280|    220|  106400|  53200|
+-----------------+---------+-------+--------+-------+

+ Detail:
    * Instance:
    N/A
"""

VIVADO_HLS_COSIMULATION = """\
Report time       : Sun Nov 22 12:00:00 CET 2026.
Solution          : solution1.
Simulation tool   : xsim.

+----------+----------+-----------------------------+-----------------------------+
|          |          |           Latency           |           Interval          |
+   RTL    +  Status  +-----------------------------+-----------------------------+
|          |          |   min   |   avg   |   max   |   min   |   avg   |   max   |
+----------+----------+-----------------------------+-----------------------------+
|      VHDL|        NA|       NA|       NA|       NA|       NA|       NA|       NA|
|   Verilog|      Pass|       37|       38|       41|       16|       16|       17|
+----------+----------+-----------------------------+-----------------------------+
"""

VITIS_HLS_COSIMULATION = """\
Report time       : Sun Nov 22 12:00:00 PM CET 2026.
Solution          : solution1.

+----------+----------+-----------------------------+-----------------------------+----------------------+
|          |          |    Latency(Clock Cycles)    |    Interval(Clock Cycles)   | Total Execution Time |
+   RTL    +  Status  +-----------------------------+-----------------------------+    (Clock Cycles)    +
|          |          |   min   |   avg   |   max   |   min   |   avg   |   max   |                      |
+----------+----------+-----------------------------+-----------------------------+----------------------+
|      VHDL|        NA|       NA|       NA|       NA|       NA|       NA|       NA|                    NA|
|   Verilog|      Pass|       37|       38|       41|       16|       16|       17|                  1642|
+----------+----------+-----------------------------+-----------------------------+----------------------+
"""

FAILED_COSIMULATION = VITIS_HLS_COSIMULATION.replace(
    "Pass|       37|       38|       41|       16|       16|       17|                  1642",
    "Fail|       NA|       NA|       NA|       NA|       NA|       NA|                    NA",
)

ULTRASCALE_UTILIZATION = """\
Copyright 1986-2022 Xilinx, Inc. All Rights Reserved.
--------------------------------------------------------------------------------------
| Tool Version : Vivado v.2022.2 (lin64) Build 1 Fri Oct 14 05:07:14 MDT 2022
| Date         : Sun Nov 22 12:00:00 2026
| Host         : somewhere running 64-bit Linux
| Command      : report_utilization -file utilization.rpt
| Design       : tiny
| Device       : xcvu9p-flga2104-2L-e
| Speed File   : -2L
| Design State : Routed
--------------------------------------------------------------------------------------

Utilization Design Information

Table of Contents
-----------------
1. CLB Logic
2. BLOCKRAM
3. ARITHMETIC

1. CLB Logic
------------

+----------------------------+------+-------+------------+-----------+-------+
|          Site Type         | Used | Fixed | Prohibited | Available | Util% |
+----------------------------+------+-------+------------+-----------+-------+
| CLB LUTs*                  |  377 |     0 |          0 |   1182240 |  0.03 |
|   LUT as Logic             |  377 |     0 |          0 |   1182240 |  0.03 |
| CLB Registers              |  212 |     0 |          0 |   2364480 | <0.01 |
+----------------------------+------+-------+------------+-----------+-------+
* Warning! The LUT value is adjusted.

2. BLOCKRAM
-----------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  1.5 |     0 |          0 |      2160 |  0.07 |
|   RAMB36/FIFO*    |    1 |     0 |          0 |      2160 |  0.05 |
| URAM              |    0 |     0 |          0 |       960 |  0.00 |
+-------------------+------+-------+------------+-----------+-------+

3. ARITHMETIC
-------------

+-----------+------+-------+------------+-----------+-------+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+-----------+------+-------+------------+-----------+-------+
| DSPs      |   10 |     0 |          0 |      6840 |  0.15 |
+-----------+------+-------+------------+-----------+-------+

4. SLR CLB Logic and Dedicated Block Utilization
------------------------------------------------

+----------------------------+------+------+--------+--------+
|          Site Type         | SLR0 | SLR1 | SLR0 % | SLR1 % |
+----------------------------+------+------+--------+--------+
| CLB LUTs                   |    0 |    0 |   0.00 |   0.00 |
+----------------------------+------+------+--------+--------+
"""

SERIES7_UTILIZATION = """\
| Tool Version : Vivado v.2019.2 (win64) Build 1
| Command      : report_utilization -file tiny_utilization_synth.rpt -pb tiny_utilization_synth.pb
| Design       : tiny
| Device       : 7z020clg400-1
| Design State : Synthesized

1. Slice Logic
--------------

+-------------------------+------+-------+-----------+-------+
|        Site Type        | Used | Fixed | Available | Util% |
+-------------------------+------+-------+-----------+-------+
| Slice LUTs*             |   12 |     0 |     53200 |  0.02 |
| Slice Registers         |   34 |     0 |    106400 |  0.03 |
+-------------------------+------+-------+-----------+-------+

3. Memory
---------

+----------------+------+-------+-----------+-------+
|    Site Type   | Used | Fixed | Available | Util% |
+----------------+------+-------+-----------+-------+
| Block RAM Tile |    0 |     0 |       140 |  0.00 |
+----------------+------+-------+-----------+-------+

4. DSP
------

+-----------+------+-------+-----------+-------+
| Site Type | Used | Fixed | Available | Util% |
+-----------+------+-------+-----------+-------+
| DSPs      |    5 |     0 |       220 |  2.27 |
+-----------+------+-------+-----------+-------+
"""
