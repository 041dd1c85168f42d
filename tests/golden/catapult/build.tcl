# Builds tiny with Siemens Catapult. The steps to take are named in the environment:
#
#     QAPSULE_STEPS="csim synth cosim" catapult -shell -file build.tcl
#
#   csim    C simulation of the test bench under SCVerify       (default)
#   synth   architecture, schedule and RTL                      (default)
#   cosim   the same test bench against the RTL, after synth

set top tiny_channels
set clock_ns 4
# The technology: put your own in the place of these.
set library nangate-45nm_beh
set library_is {-rtlsyntool DesignCompiler -vendor Nangate -technology 045nm}
set memories {ccs_sample_mem ccs_sample_rom}

set known {csim synth cosim}
set steps [expr {[info exists ::env(QAPSULE_STEPS)] ? $::env(QAPSULE_STEPS) : {csim synth}}]
foreach step $steps {
    if {$step ni $known} {
        puts "ERROR: there is no step $step; the steps are $known"
        exit 1
    }
}

set here [file normalize [file dirname [info script]]]
cd $here

solution new -state initial
solution options defaults
solution options set /Input/CppStandard c++14
solution options set /Input/CompilerFlags -DQAPSULE_SCVERIFY
solution options set /Output/OutputVHDL false
flow package require /SCVerify
flow package option set /SCVerify/INVOKE_ARGS [file join $here tb data]
solution file add [file join $here firmware tiny.cpp] -type C++
solution file add [file join $here catapult $top.cpp] -type C++
solution file add [file join $here tb tiny_tb.cpp] -type C++ -exclude true

go analyze
go compile

# The test bench returns 1 on a difference in one bit, which stops this script.
if {"csim" in $steps} {
    flow run /SCVerify/launch_make ./scverify/Verify_orig_cxx_osci.mk {} SIMTOOL=osci sim
}
if {"synth" in $steps} {
    solution library add $library -- {*}$library_is
    foreach name $memories {
        solution library add $name
    }
    go libraries
    directive set -CLOCKS [list clk [list -CLOCK_PERIOD $clock_ns -CLOCK_EDGE rising -RESET_KIND sync \
        -RESET_SYNC_NAME rst -RESET_SYNC_ACTIVE high]]
    go assembly
    source [file join $here directives.tcl]
    go architect
    go allocate
    go extract
}
if {"cosim" in $steps} {
    flow run /SCVerify/launch_make ./scverify/Verify_rtl_v_msim.mk {} SIMTOOL=msim sim
}
exit 0
