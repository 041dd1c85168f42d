/// \file
/// Hooks that let a simulation look at hidden tensors. They mean nothing unless the includer has defined the macros
/// before, as the emulator does.
///
///     QAPSULE_TRACE(name, array)                           the tensor `array` is complete
///     QAPSULE_TRACE_AS(name, tensor, array)                so is `tensor`, which has the same numbers in the same order
///     QAPSULE_TRACE_PACKET(name, array, packets, number)   so is one packet, of so many, of the tensor `array`
///     QAPSULE_TRACE_PACKET_AS(name, tensor, array, packets, number)   so is one of `tensor`

#ifndef QAPSULE_TRACE
#define QAPSULE_TRACE(name, array)
#endif
#ifndef QAPSULE_TRACE_AS
#define QAPSULE_TRACE_AS(name, tensor, array)
#endif
#ifndef QAPSULE_TRACE_PACKET
#define QAPSULE_TRACE_PACKET(name, array, packets, number)
#endif
#ifndef QAPSULE_TRACE_PACKET_AS
#define QAPSULE_TRACE_PACKET_AS(name, tensor, array, packets, number)
#endif
