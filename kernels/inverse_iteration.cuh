// The leading eigenvectors of a tridiagonal matrix by inverse iteration, and their transformation back to the dense matrix.
//
// Source: Parlett, The Symmetric Eigenvalue Problem, section 4.2 and LAPACK's dstein; vectors of eigenvalues that lie close
// together are made orthogonal, by Gram-Schmidt twice, after every solve.
// Differs: a fixed number of solves, then the residual of every vector is checked.
#pragma once
#include "tridiagonal.cuh"

namespace pb {

// From a start that is not orthogonal to the vector, to better than 1e-3, one solve is enough; noise needs another.
constexpr int inverse_solves = 3;

// Size of the scratch for k vectors of order n: three diagonals of U, the multipliers, and flags of the exchanges.
PB_SIZE int64_t inverse_room(int n, int k) { return int64_t{5} * n * k; }

// A number in (-1, 1) that depends only on its position.
template <class T> PB_BODY T scatter(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  x ^= x >> 16;
  return T(x >> 8) / T(1 << 23) - T(1) + T(1) / T(1 << 25);
}

// LU factors, with row exchanges, of T - lambda I for one vector; field f of row i lies at (f n + i) k from its start.
template <class T> struct Factors {
  T* start;
  int n, k;
  PB_BODY T& at(int field, int i) const { return start[(int64_t{field} * n + i) * k]; }
};

template <class T> PB_BODY void factor(Factors<T> f, Tridiagonal<T> t, T lambda, T least) {
  const int n = f.n;
  T first = t.diagonal[0] - lambda, second = n > 1 ? t.beside[1] : T(0);
  for (int i = 0; i < n; ++i) {
    if (i + 1 == n) {
      f.at(0, i) = first, f.at(1, i) = f.at(2, i) = f.at(3, i) = f.at(4, i) = T(0);
    } else {
      const T below = t.beside[i + 1], next = t.diagonal[i + 1] - lambda, after = i + 2 < n ? t.beside[i + 2] : T(0);
      const bool exchange = fabs(below) > fabs(first);
      const T upper[3] = {exchange ? below : first, exchange ? next : second, exchange ? after : T(0)};
      const T multiplier = upper[0] == T(0) ? T(0) : (exchange ? first : below) / upper[0];
      const T lower[2] = {exchange ? second : next, exchange ? T(0) : after};
      for (int c = 0; c < 3; ++c) f.at(c, i) = upper[c];
      f.at(3, i) = multiplier, f.at(4, i) = exchange ? T(1) : T(0);
      first = lower[0] - multiplier * upper[1];
      second = lower[1] - multiplier * upper[2];
    }
    if (fabs(f.at(0, i)) < least) f.at(0, i) = copysign(least, f.at(0, i));
  }
}

template <class T> PB_BODY void solve(Factors<T> f, T* y) {
  const int n = f.n;
  for (int i = 0; i + 1 < n; ++i) {
    const bool exchange = f.at(4, i) != T(0);
    const T kept = exchange ? y[i + 1] : y[i], other = exchange ? y[i] : y[i + 1];
    y[i] = kept;
    y[i + 1] = other - f.at(3, i) * kept;
  }
  T one = T(0), two = T(0);
  for (int i = n - 1; i >= 0; --i) {
    const T x = (y[i] - f.at(1, i) * one - f.at(2, i) * two) / f.at(0, i);
    y[i] = x;
    two = one;
    one = x;
  }
}

// Rows 0 .. k - 1 of `vectors` [k, n] become unit eigenvectors of T to the leading `values`. `coefficients` is scratch for n numbers. False
// if a residual shows that one is not an eigenvector.
template <class T, class Team>
PB_BODY bool leading_vectors(Team& team, int n, int k, Tridiagonal<T> t, const T* values, T reach, T* room, T* vectors,
                             T* coefficients) {
  const T least = Limits<T>::epsilon * larger(reach, Limits<T>::smallest / Limits<T>::epsilon);
  const T close = T(1e-3) * reach;
  const auto factors = [&](int j) { return Factors<T>{room + j, n, k}; };
  team.open(k * n, [&](int i) { vectors[i] = scatter<T>(static_cast<uint32_t>(i) + 1u); });
  team.each(k, [&](int j) { factor(factors(j), t, values[j], least); });
  for (int pass = 0; pass < inverse_solves; ++pass) {
    team.each(k, [&](int j) { solve(factors(j), vectors + int64_t{j} * n); });
    int first = 0;  // the first of the eigenvalues that lie close together
    for (int j = 0; j < k; ++j) {
      T* y = vectors + int64_t{j} * n;
      if (j > 0 && values[j - 1] - values[j] > close) first = j;
      // The vector is divided by its largest entry first, so that squares do not overflow.
      const T peak = team.template max<T>(n, [&](int i) { return fabs(y[i]); });
      team.each(n, [&](int i) { y[i] /= peak; });
      for (int again = 0; again < 2 && j > first; ++again) {
        team.warps(j - first, [&](auto& warp, int i) {
          const T* other = vectors + int64_t{first + i} * n;
          const T dot = warp.template sum<T>(n, [&](int r) { return y[r] * other[r]; });
          warp.each(1, [&](int) { coefficients[i] = dot; });
        });
        team.each(n, [&](int r) {
          T x = y[r];
          for (int i = 0; i < j - first; ++i) x -= coefficients[i] * vectors[int64_t{first + i} * n + r];
          y[r] = x;
        });
      }
      const T length = sqrt(team.template sum<T>(n, [&](int i) { return y[i] * y[i]; }));
      team.each(n, [&](int i) { y[i] /= length; });
    }
  }
  // |T y - lambda y| in the largest entry, of all vectors; NaN counts as infinite.
  const T residual = team.template max<T>(k * n, [&](int item) {
    const int j = item / n, i = item - j * n;
    const T* y = vectors + int64_t{j} * n;
    T r = (t.diagonal[i] - values[j]) * y[i];
    if (i > 0) r += t.beside[i] * y[i - 1];
    if (i + 1 < n) r += t.beside[i + 1] * y[i + 1];
    return isfinite(r) ? fabs(r) : reach + T(1);
  });
  return residual <= T(8) * T(n) * least;
}

// Turns eigenvectors of T, rows of `vectors` [k, n], into those of A: H_{n-1} .. H_1 y, with u_i from the rows of `a`.
template <class T, class Team>
PB_BODY void back_transform(Team& team, int n, int k, const T* a, const T* inverse, T* vectors) {
  team.warps(k, [&](auto& warp, int j) {
    T* y = vectors + int64_t{j} * n;
    for (int i = 1; i < n; ++i) {
      if (inverse[i] == T(0)) continue;
      const T* u = a + packed(i, 0);
      const T dot = inverse[i] * warp.template sum<T>(i, [&](int r) { return u[r] * y[r]; });
      warp.each(i, [&](int r) { y[r] -= dot * u[r]; });
    }
  });
}

}  // namespace pb
