"""The 16 features of a jet, from its constituents before and after grooming."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from recipes.simulation.kinematics import Floats, mass, polar


@cache
def _correlators() -> Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]:
    """The energy correlation sums, compiled at their first use: they cost the cube of the number of particles."""
    import numba

    @numba.njit(cache=False, fastmath=False)  # type: ignore[untyped-decorator, unused-ignore]
    def correlators(z: Floats, rapidity: Floats, azimuth: Floats) -> tuple[Floats, Floats]:
        """e2 (3,) for beta = 0, 1, 2 and (1e3, 2e3, 3e3) in rows (2, 3) for beta = 1, 2.

        ``z`` are fractions of the transverse momentum; angles are distances in the plane of rapidity and azimuth.
        _v e3^beta = sum over i < j < k of z_i z_j z_k times the product of the v smallest angles^beta.
        """
        n = z.size
        theta = np.zeros((n, n))
        e2 = np.zeros(3)
        e3 = np.zeros((2, 3))
        for i in range(n):
            for j in range(i + 1, n):
                d_phi = abs(azimuth[i] - azimuth[j])
                if d_phi > np.pi:
                    d_phi = 2.0 * np.pi - d_phi
                d_y = rapidity[i] - rapidity[j]
                squared = d_phi * d_phi + d_y * d_y
                theta[i, j] = np.sqrt(squared)
                zz = z[i] * z[j]
                e2[0] += zz
                e2[1] += zz * theta[i, j]
                e2[2] += zz * squared
        for i in range(n):
            for j in range(i + 1, n):
                a = theta[i, j]
                zz = z[i] * z[j]
                for k in range(j + 1, n):
                    b = theta[i, k]
                    c = theta[j, k]
                    low = min(a, min(b, c))
                    high = max(a, max(b, c))
                    middle = max(min(a, b), min(max(a, b), c))
                    w = zz * z[k]
                    e3[0, 0] += w * low
                    e3[0, 1] += w * low * middle
                    e3[0, 2] += w * low * middle * high
                    e3[1, 0] += w * low * low
                    e3[1, 1] += w * (low * middle) ** 2
                    e3[1, 2] += w * (low * middle * high) ** 2
        return e2, e3

    compiled: Callable[[Floats, Floats, Floats], tuple[Floats, Floats]] = correlators
    return compiled


def features(constituents: Floats, groomed: Floats) -> list[float]:
    """One row of the data set, in the order of ``recipes.data.jets.FEATURES``; momenta are (particles, 4)."""
    z = np.hypot(constituents[:, 0], constituents[:, 1])
    z = z / z.sum()
    z = z[z > 0]
    pt, rapidity, azimuth = polar(groomed)
    e2, e3 = _correlators()(pt / pt.sum(), rapidity, azimuth)
    return [
        float((z * np.log(z)).sum()),
        *_ratios(e2.tolist(), e3.tolist()),
        float(mass(groomed.sum(axis=0, keepdims=True))[0]),
        float(len(constituents)),
    ]


def _ratios(e2: list[float], e3: list[list[float]]) -> list[float]:
    """c1_b0 to n2_b2."""
    flat, first, second = e2
    (one_1, two_1, three_1), (one_2, two_2, three_2) = e3
    return [
        flat,  # C1 for beta = 0, 1, 2
        first,
        second,
        _ratio(three_1, first**2),  # C2
        _ratio(three_2, second**2),
        _ratio(three_1, first**3),  # D2
        _ratio(three_2, second**3),
        _ratio(three_1, first**3),  # D2(1, 1), which is D2 for beta = 1; the original data set has both
        _ratio(three_1, second**1.5),  # D2(1, 2)
        _ratio(one_1, first),  # M2
        _ratio(one_2, second),
        _ratio(two_1, first**2),  # N2
        _ratio(two_2, second**2),
    ]


def _ratio(a: float, b: float) -> float:
    """0 where ``b`` vanishes: jets groomed to fewer than two particles."""
    return a / b if b > 0.0 else 0.0
