// A stand-in of our own for "HLS/ac_fixed.h", Intel's edition of Siemens' header: the latter.
#include <ac_fixed.h>
