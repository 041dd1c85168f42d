"""A search for disagreements: random networks through everything that must say the same about them, bit for bit.

A network is drawn op by op (:mod:`recipes.fuzz.graphs`) or as a torch module (:mod:`recipes.fuzz.modules`) and becomes
a :class:`~recipes.fuzz.case.Case`: torch in float64, the graph before and after each pass, and the C++ of three number
types, with arrays and with streams, have to agree about it. The three types are what every backend's design is made
of: the firmware of vitis and vitis_accel is that of ``ap_fixed``, that of intel and catapult is that of ``ac_fixed``.
"""
