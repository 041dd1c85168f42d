# Builds the kernel of tiny with Vitis HLS, without a platform: reports, and an .xo for v++ to link.
# A step is switched on or off on the command line:
#
#     vitis_hls -f kernel.tcl "csim=1 synth=1 cosim=1 export=1"
#
#   reset   start from an empty project   (1)
#   csim    C simulation                  (1)
#   synth   C synthesis                   (1)
#   cosim   C/RTL co-simulation           (0)
#   export  the kernel as .xo             (0)

set project tiny_kernel
set part xcu250-figd2104-2L-e
set clock_ns 5.0

array set opt {reset 1 csim 1 synth 1 cosim 0 export 0}
foreach arg $::argv {
    foreach {- name value} [regexp -all -inline {(\w+)=(\w+)} $arg] {
        if {![info exists opt($name)]} {
            puts "ERROR: there is no step $name; the steps are [lsort [array names opt]]"
            exit 1
        }
        set opt($name) $value
    }
}

set here [file normalize [file dirname [info script]]]
cd $here

# The tools cut what they hand to the test bench at spaces and the like; they run it four folders below this one.
set above [expr {[regexp {^[\w/.:+-]+$} $here] ? $here : "../../../.."}]
set vectors $above/data

set standard -std=c++14
set flow {-flow_target vitis}
set fresh [expr {$opt(reset) ? "-reset" : ""}]

open_project {*}$fresh ${project}_prj
set_top $project
add_files [list kernel/$project.cpp firmware/tiny.cpp] -cflags $standard
add_files -tb tb/${project}_tb.cpp -cflags $standard
open_solution {*}$fresh {*}$flow solution1
set_part $part
create_clock -period $clock_ns -name default

# The test bench returns 1 on the first difference in a bit, which stops this script.
if {$opt(csim)} {
    csim_design -argv $vectors
}
if {$opt(synth)} {
    csynth_design
}
if {$opt(cosim)} {
    cosim_design -argv $vectors
}
if {$opt(export)} {
    export_design -format xo -output $project.xo
}
exit 0
