// The names by which Catapult's SCVerify finds the design and the test bench. build.tcl defines QAPSULE_SCVERIFY, which
// brings Siemens' own header in; without it these stand in: enough to compile and run the test bench anywhere.

#ifndef DESIGN_TINY_SCVERIFY_H
#define DESIGN_TINY_SCVERIFY_H

#if defined(QAPSULE_SCVERIFY)
#include <mc_scverify.h>
#endif

#ifndef CCS_MAIN
#define CCS_MAIN(count, values) int main(count, values)
#endif
#ifndef CCS_RETURN
#define CCS_RETURN(status) return (status)
#endif
#ifndef CCS_DESIGN
#define CCS_DESIGN(function) function
#endif
#ifndef CCS_BLOCK
#define CCS_BLOCK(function) function
#endif

#endif  // DESIGN_TINY_SCVERIFY_H
