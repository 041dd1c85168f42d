// A stand-in of our own for "HLS/ac_int.h", Intel's edition of Siemens' header: the latter.
#include <ac_int.h>
