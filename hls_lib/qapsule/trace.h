/// \file
/// Hooks that let a simulation look at hidden tensors. A design writes QAPSULE_TRACE(name, array) after each layer; it
/// means nothing unless the includer has defined the macro before, as the emulator and the test bench do.

#ifndef QAPSULE_TRACE
#define QAPSULE_TRACE(name, array)
#endif
