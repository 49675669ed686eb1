// The lower triangle of a symmetric matrix, packed by rows: half the memory, so that order 234 in double, with its
// scratch, fits the shared memory of sm_90 (227 KB), and 197 that of sm_80 (163 KB).
//
// Packing causes no bank conflicts: a column, entries i (i + 1) / 2 + j for consecutive i, uses all banks equally, because triangular
// numbers take every residue of a power of two.
#pragma once
#include "team.cuh"

namespace pb {

PB_SIZE int triangle_size(int n) { return n * (n + 1) / 2; }

// Position of entry (i, j), i >= j.
PB_BODY int packed(int i, int j) { return i * (i + 1) / 2 + j; }

// Copies the lower triangle of `full` [n, n].
template <class T, class Team> PB_BODY void load_triangle(Team& team, int n, const T* full, T* a) {
  team.each(n * 32, [&](int item) {
    const int i = item / 32;
    for (int j = item % 32; j <= i; j += 32) a[packed(i, j)] = full[i * n + j];
  });
}

// Scales by a power of two, without rounding, so that the largest entry is near 1 and squares neither overflow nor vanish.
// Returns the exponent to multiply eigenvalues by 2 to; false in `finite` where an entry is not a finite number.
template <class T, class Team> PB_BODY int normalise(Team& team, int n, T* a, bool& finite) {
  const auto seen = team.template reduce<Two<T>>(
      triangle_size(n), Two<T>{T(0), T(0)},
      [&](int i) { return Two<T>{fabs(a[i]), isfinite(a[i]) ? T(0) : T(1)}; },
      [](Two<T> x, Two<T> y) { return Two<T>{y.a > x.a ? y.a : x.a, x.b + y.b}; });
  finite = seen.b == T(0);
  if (!finite || seen.a == T(0)) return 0;
  int exponent = 0;
  frexp(seen.a, &exponent);
  exponent = larger(-Limits<T>::exponent, smaller(Limits<T>::exponent, exponent));
  const T scale = ldexp(T(1), -exponent);
  team.each(triangle_size(n), [&](int i) { a[i] *= scale; });
  return exponent;
}

}  // namespace pb
