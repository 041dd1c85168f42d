/// \file
/// A change of shape.

#ifndef QAPSULE_RESHAPE_H
#define QAPSULE_RESHAPE_H

#include "cast.h"
#include "pragmas.h"

namespace qapsule {

/// y = x. Every tensor of a design is one row-major axis already, so that reshaping is wires.
template <class X, class Y, int N>
void reshape(const X (&x)[N], Y (&y)[N]) {
    QAPSULE_INLINE
    cast(x, y);
}

}  // namespace qapsule

#endif  // QAPSULE_RESHAPE_H
