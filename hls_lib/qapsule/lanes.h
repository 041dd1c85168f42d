/// \file
/// How many samples fill one vector register of the machine that compiles this.

#ifndef QAPSULE_LANES_H
#define QAPSULE_LANES_H

#if defined(__AVX512F__)
#define QAPSULE_LANES 16
#elif defined(__AVX2__)
#define QAPSULE_LANES 8
#else
#define QAPSULE_LANES 4
#endif

#endif  // QAPSULE_LANES_H
