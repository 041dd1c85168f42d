/// \file
/// One spelling for the directives of every HLS tool; an ordinary compiler sees none of them.
///
/// The tools disagree on where a loop directive stands: Catapult and Intel read it in front of the loop, Xilinx inside
/// its braces. A kernel therefore writes both, and each tool's half that is not there expands to nothing:
///
///     QAPSULE_UNROLLED(outputs)              // names the loop; directive for Catapult and Intel
///     for (int j = 0; j < N_OUT; ++j) {
///         QAPSULE_UNROLL                     // directive for Xilinx
///
/// Recognised are Vivado HLS (__VIVADO_HLS__), Vitis HLS (__VITIS_HLS__), the Intel HLS compiler
/// (__INTELFPGA_COMPILER__) and Siemens Catapult, which announces itself by __SYNTHESIS__ alone; a project may say
/// -DQAPSULE_CATAPULT where it does not. The spellings follow the vendors' published examples; none of the tools is
/// needed to build or test this library, and what they print about a directive has the last word.

#ifndef QAPSULE_PRAGMAS_H
#define QAPSULE_PRAGMAS_H

// A macro argument must be expanded before it becomes the text of a pragma.
#define QAPSULE_TEXT(...) #__VA_ARGS__
#define QAPSULE_PRAGMA(...) _Pragma(QAPSULE_TEXT(__VA_ARGS__))

#if defined(__VITIS_HLS__) || defined(__VIVADO_HLS__)
#define QAPSULE_TOOL_XILINX
#elif defined(__INTELFPGA_COMPILER__)
#define QAPSULE_TOOL_INTEL
#elif defined(QAPSULE_CATAPULT) || defined(__SYNTHESIS__)
#define QAPSULE_TOOL_CATAPULT
#endif

// In front of a loop: its name, and the directive where the tool wants it there. Catapult's stands before the label,
// Intel's between label and loop. An ordinary compiler would warn of labels that nothing jumps to.
#if defined(QAPSULE_TOOL_XILINX)
#define QAPSULE_UNROLLED(label) label:
#define QAPSULE_PIPELINED(label, ii) label:
#elif defined(QAPSULE_TOOL_CATAPULT)
#define QAPSULE_UNROLLED(label) QAPSULE_PRAGMA(hls_unroll yes) label:
#define QAPSULE_PIPELINED(label, ii) QAPSULE_PRAGMA(hls_pipeline_init_interval ii) label:
#elif defined(QAPSULE_TOOL_INTEL)
#define QAPSULE_UNROLLED(label) label: QAPSULE_PRAGMA(unroll)
#define QAPSULE_PIPELINED(label, interval) label: QAPSULE_PRAGMA(ii interval)
#else
#define QAPSULE_UNROLLED(label)
#define QAPSULE_PIPELINED(label, ii)
#endif

// Inside a loop or function, and on arrays: Xilinx's. Intel and Catapult take registers from the unrolled accesses, and
// array directives from the project.
#if defined(QAPSULE_TOOL_XILINX)
/// The loop whose body this opens is fully unrolled.
#define QAPSULE_UNROLL QAPSULE_PRAGMA(HLS UNROLL)
/// The loop or function whose body this opens takes new data every ii cycles; loops within it unroll.
#define QAPSULE_PIPELINE(ii) QAPSULE_PRAGMA(HLS PIPELINE II = ii)
/// The function whose body this opens dissolves into its caller.
#define QAPSULE_INLINE QAPSULE_PRAGMA(HLS INLINE)
/// The functions called in this body run concurrently on consecutive data.
#define QAPSULE_DATAFLOW QAPSULE_PRAGMA(HLS DATAFLOW)
/// The array becomes registers in dimension `axis`, counted from 1 (0: in all).
#define QAPSULE_PARTITION(array, axis) QAPSULE_PRAGMA(HLS ARRAY_PARTITION variable = array complete dim = axis)
/// What is written to the array is not read again within the next few cycles.
#define QAPSULE_INDEPENDENT(array) QAPSULE_PRAGMA(HLS DEPENDENCE variable = array inter false)
/// The elements along dimension `axis` are read together, as one wide memory word.
#define QAPSULE_RESHAPE(array, axis) QAPSULE_PRAGMA(HLS ARRAY_RESHAPE variable = array complete dim = axis)
#if defined(__VITIS_HLS__)
/// The array is a memory of this kind, ROM_1P or RAM_1P, made of BRAM or LUTRAM.
#define QAPSULE_STORAGE(array, kind, made_of) \
    QAPSULE_PRAGMA(HLS BIND_STORAGE variable = array type = kind impl = made_of)
/// As QAPSULE_PIPELINE, between streams: what is under way goes on while nothing comes in. Elsewhere it waits, and FIFOs
/// must hold what comes in meanwhile.
#define QAPSULE_FLOW(ii) QAPSULE_PRAGMA(HLS PIPELINE II = ii style = frp)
/// The fields of a struct are packed into one word without gaps.
#define QAPSULE_PACK(array) QAPSULE_PRAGMA(HLS AGGREGATE variable = array compact = bit)
/// The stream is a FIFO with room for `places` packets.
#define QAPSULE_FIFO(stream, places) QAPSULE_PRAGMA(HLS STREAM variable = stream depth = places)
#else
#define QAPSULE_STORAGE(array, kind, made_of) QAPSULE_PRAGMA(HLS RESOURCE variable = array core = kind##_##made_of)
#define QAPSULE_FLOW(ii) QAPSULE_PIPELINE(ii)
#define QAPSULE_PACK(array) QAPSULE_PRAGMA(HLS DATA_PACK variable = array)
// Unless told so, Vivado HLS makes a FIFO for every field.
#define QAPSULE_FIFO(stream, places) \
    QAPSULE_PACK(stream) QAPSULE_PRAGMA(HLS STREAM variable = stream depth = places)
#endif
#else
#define QAPSULE_UNROLL
#define QAPSULE_PIPELINE(ii)
#define QAPSULE_FLOW(ii)
#define QAPSULE_INLINE
#define QAPSULE_DATAFLOW
#define QAPSULE_PARTITION(array, axis)
#define QAPSULE_INDEPENDENT(array)
#define QAPSULE_RESHAPE(array, axis)
#define QAPSULE_STORAGE(array, kind, made_of)
#define QAPSULE_PACK(array)
#define QAPSULE_FIFO(stream, places)
#endif

// Catapult: the function that follows is a block of its own, beside the others; a channel between blocks is static. The
// other tools see that by themselves.
#if defined(QAPSULE_TOOL_CATAPULT)
#define QAPSULE_PROCESS QAPSULE_PRAGMA(hls_design)
#define QAPSULE_CHANNEL static
#else
#define QAPSULE_PROCESS
#define QAPSULE_CHANNEL
#endif

#endif  // QAPSULE_PRAGMAS_H
