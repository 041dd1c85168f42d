/// \file
/// A change of shape.

#ifndef QAPSULE_FLATTEN_H
#define QAPSULE_FLATTEN_H

#include "cast.h"
#include "pragmas.h"

namespace qapsule {

/// y = x. Every tensor of a design is one row-major axis already, so that flattening is wires.
template <class X, class Y, int N>
void flatten(const X (&x)[N], Y (&y)[N]) {
    QAPSULE_INLINE
    cast(x, y);
}

}  // namespace qapsule

#endif  // QAPSULE_FLATTEN_H
