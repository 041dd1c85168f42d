/// \file
/// Softmax from two tables: exp(-d) by the distance d from the largest number, and 1 / s of their sum.

#ifndef QAPSULE_SOFTMAX_H
#define QAPSULE_SOFTMAX_H

#include "numbers.h"
#include "pragmas.h"

namespace qapsule {

namespace detail {

/// y for numbers x none of which exceeds `largest`.
template <class Index, class Mantissa, class Sum, class Term, class Inverse, class X, class Y, class E, class R, class P,
          int N, int PLACES, int OCTAVES, int MANTISSAS>
void softmax_below(const X& largest, const X (&x)[N], Y (&y)[N], const E (&exponentials)[PLACES],
                   const R (&reciprocals)[OCTAVES][MANTISSAS], const P (&powers)[OCTAVES]) {
    QAPSULE_INLINE
    Term term[N];
    QAPSULE_PARTITION(term, 0)
    Sum sum = Sum(0);
    QAPSULE_UNROLLED(terms)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        term[i] = look_up<0, Term>(exponentials, Index(largest - x[i]));
        sum = Sum(sum + term[i]);
    }
    // The last octave that the sum reaches is its own: there its leading one stands at 1, which is the first entry of
    // the exponentials.
    Inverse inverse = look_up<0, Inverse>(reciprocals[0], Mantissa(sum * powers[0]));
    QAPSULE_UNROLLED(octaves)
    for (int k = 1; k < OCTAVES; ++k) {
        QAPSULE_UNROLL
        const Inverse here = look_up<0, Inverse>(reciprocals[k], Mantissa(sum * powers[k]));
        inverse = select(sum * powers[k] >= exponentials[0], here, inverse);
    }
    QAPSULE_UNROLLED(results)
    for (int i = 0; i < N; ++i) {
        QAPSULE_UNROLL
        y[i] = Y(term[i] * inverse);
    }
}

}  // namespace detail

/// The stable way: d is the distance from the largest x. II = 1, unrolled: N multipliers, N readers of the exponentials,
/// and one of each octave of reciprocals; the products with powers of two are wires. Index rounds d to the place of an
/// entry, Mantissa keeps the bits behind the leading one of the sum.
template <class Index, class Mantissa, class Sum, class Term, class Inverse, class X, class Y, class E, class R, class P,
          int N, int PLACES, int OCTAVES, int MANTISSAS>
void softmax(const X (&x)[N], Y (&y)[N], const E (&exponentials)[PLACES], const R (&reciprocals)[OCTAVES][MANTISSAS],
             const P (&powers)[OCTAVES]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(powers, 0)
    X largest = x[0];
    QAPSULE_UNROLLED(inputs)
    for (int i = 1; i < N; ++i) {
        QAPSULE_UNROLL
        largest = select(x[i] > largest, x[i], largest);
    }
    detail::softmax_below<Index, Mantissa, Sum, Term, Inverse>(largest, x, y, exponentials, reciprocals, powers);
}

/// The fast way: d is the distance from `high`, which no x exceeds; nothing waits for the largest x.
template <class Index, class Mantissa, class Sum, class Term, class Inverse, class X, class Y, class E, class R, class P,
          class H, int N, int PLACES, int OCTAVES, int MANTISSAS>
void softmax(const X (&x)[N], Y (&y)[N], const E (&exponentials)[PLACES], const R (&reciprocals)[OCTAVES][MANTISSAS],
             const P (&powers)[OCTAVES], const H (&high)[1]) {
    QAPSULE_PIPELINE(1)
    QAPSULE_PARTITION(powers, 0)
    detail::softmax_below<Index, Mantissa, Sum, Term, Inverse>(X(high[0]), x, y, exponentials, reciprocals, powers);
}

}  // namespace qapsule

#endif  // QAPSULE_SOFTMAX_H
