# What each layer of tiny becomes. Read by build.tcl between `go assembly` and `go architect`.
#
# In the source already, as pragmas of the kernels: every loop over elements is unrolled, and the loop `steps` of a layer
# with shared multipliers takes a step every cycle. Here: the interval of the whole block, and where tables lie.
#
#   layer, kernel, interval: cycles between two samples of this layer alone
#   cast, cast, 1
#   affine, affine, 1
#   flat, reshape, 1
#   fc, dense, 3
#   relu, relu, 1
#   threshold, threshold, 1
#   sparse, sparse_dense, 1
#   narrow, dense, 1
#   clip, clip, 1
#   channels, channel_cast, 1
#   largest, maximum, 1

# Catapult names what it found in the source by where it found it. Tries one place after the other, and says so if none
# is there: a directive that nobody heard is a slower or a larger design.
proc qapsule_set {places args} {
    foreach place $places {
        if {![catch {directive set $place {*}$args}]} {
            return
        }
    }
    puts "NOTE: there is no [lindex $places 0] to apply $args to; `directive get` lists what there is"
}

# Multipliers are shared: the layers work one after another, and the next sample enters when the last layer is done.

proc qapsule_table {name suffix} {
    global top
    return [list /$top/$name.rom$suffix /$top/core/$name.rom$suffix /$top/core/$name$suffix /$top/$name$suffix]
}

# The weights of layers with shared multipliers, read one word per step.
# 3 words of 28 bits, as logic; in a memory of your own:
#   qapsule_set [qapsule_table fc_weight {}] -WORD_WIDTH 28
#   qapsule_set [qapsule_table fc_weight :rsc] -MAP_TO_MODULE LIBRARY.MODULE
qapsule_set [qapsule_table fc_weight :rsc] -MAP_TO_MODULE {[Register]}
