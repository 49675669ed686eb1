// Eigenvalues, and the leading eigenvectors, of a batch of small symmetric matrices.
//
// The caller chooses one of two ways: rotations (jacobi.cuh), about 3 R^3 operations in a sweep and 5 to 9 sweeps, with parallel phases; or
// reduction with bisection (tridiagonal.cuh), 4/3 R^3 operations but a chain of R reflectors. Rotations suit one warp and R <= 32, the
// reduction suits larger orders; docs/performance.md counts both.
#pragma once
#include "gram.cuh"
#include "inverse_iteration.cuh"
#include "jacobi.cuh"
#include "jobs.h"

namespace pb {

// The outcome for a matrix.
enum Outcome : int { solved = 0, not_finite = 1, not_converged = 2 };

// Largest order that one warp solves.
constexpr int warp_order = 32;

// Threads of a block for order n.
PB_SIZE int block_threads(int n) { return n <= warp_order ? 32 : n <= 64 ? 128 : 256; }

// Numbers of fast memory for one matrix: the triangle, the method's scratch, eigenvectors of all rows for rotations.
PB_SIZE int64_t fast_room(Way way, int n, int k, int threads) {
  return triangle_size(n) + (way == Way::Jacobi ? jacobi_scratch(n) + n + (k > 0 ? n * n : 0)
                                                : tridiagonal_scratch(n, threads) + n);
}

// Numbers of slow memory for one matrix.
PB_SIZE int64_t slow_room(Way way, int n, int k) { return way == Way::Tridiagonal ? inverse_room(n, k) : 0; }

// A factor's Gram matrix and its eigenvalues in one launch: threads, and numbers of fast memory (the panel uses the memory of the solver's
// later scratch). Each patch of a panel has its own thread: 136 of them from order 61 on.
PB_SIZE int factor_threads(int n) { return n <= warp_order ? 64 : n <= 60 ? 128 : 160; }
PB_SIZE int64_t factor_room(Way way, int n, int k) {
  const int64_t solver = fast_room(way, n, k, factor_threads(n)), panels = triangle_size(n) + int64_t{n} * panel_pitch;
  return solver > panels ? solver : panels;
}

// Solves the matrix whose packed lower triangle fills the start of `fast`, which is overwritten.
//   values  [n]     descending; NaN where the outcome is not `solved`
//   vectors [k, n]  unit rows, to the k leading values
template <class T, class Team>
PB_BODY void solve_triangle(Team& team, Way way, int sweeps, int n, int k, T* fast, T* slow, T* values, T* vectors,
                            int* outcome) {
  T *a = fast, *found = a + triangle_size(n), *scratch = found + n;
  bool finite = true, converged = true;
  const int exponent = normalise(team, n, a, finite);
  if (finite && way == Way::Jacobi) {
    T* all = k > 0 ? scratch + jacobi_scratch(n) : nullptr;
    converged = jacobi(team, sweeps, n, a, all, scratch);
    team.each(n, [&](int i) { found[i] = a[packed(i, i)]; });
    if (converged) {
      // Each value's position is the number of values before it.
      team.warps(n, [&](auto& warp, int i) {
        const T own = found[i];
        const int place = warp.template sum<int>(n, [&](int j) { return found[j] > own || (found[j] == own && j < i); });
        warp.each(1, [&](int) { values[place] = ldexp(own, exponent); });
        if (place < k) warp.each(n, [&](int r) { vectors[int64_t{place} * n + r] = all[i * n + r]; });
      });
    }
  } else if (finite) {
    const auto t = tridiagonal_in(scratch, n);
    tridiagonalise(team, n, a, t);
    const T reach = bisect(team, n, t, found);
    if (k > 0) {
      converged = leading_vectors(team, n, k, t, found, reach, slow, vectors, t.vector);
      back_transform(team, n, k, a, t.inverse, vectors);
    }
    team.each(n, [&](int i) { values[i] = ldexp(found[i], exponent); });
  }
  const bool good = finite && converged;
  team.each(1, [&](int) { *outcome = good ? solved : finite ? not_converged : not_finite; });
  if (good) return;
  const T nan = Limits<T>::nan;
  team.open(n, [&](int i) { values[i] = nan; });
  team.each(k * n, [&](int i) { vectors[i] = nan; });
}

}  // namespace pb
