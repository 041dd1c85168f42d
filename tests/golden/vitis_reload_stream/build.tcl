# Builds tiny with Vitis HLS or Vivado HLS. A step is switched on or off on the command line:
#
#     vitis_hls  -f build.tcl "csim=1 synth=1 cosim=1 export=1"
#     vivado_hls -f build.tcl "csim=1 synth=1"
#
#   reset   start from an empty project   (1)
#   csim    C simulation                  (1)
#   synth   C synthesis                   (1)
#   cosim   C/RTL co-simulation           (0)
#   export  IP for the Vivado catalogue   (0)

set project tiny
set part xcvu9p-flga2577-2-e
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
set vectors $above/tb/data

# Vivado HLS ends at C++11, and knows no flows.
if {[string match *vivado_hls* [file tail [info nameofexecutable]]]} {
    set standard -std=c++0x
    set flow {}
} else {
    set standard -std=c++14
    set flow {-flow_target vivado}
}
set fresh [expr {$opt(reset) ? "-reset" : ""}]

open_project {*}$fresh ${project}_prj
set_top $project
add_files firmware/$project.cpp -cflags $standard
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
    export_design -format ip_catalog
}
exit 0
