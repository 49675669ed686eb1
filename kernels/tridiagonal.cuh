// Eigenvalues of a symmetric matrix by Householder reduction to tridiagonal form and bisection.
//
// Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 8.3.1 (reduction), 8.4.1 (Sturm counts); the reduction runs from the
// last row up, as in EISPACK's tred2, so that the rest is always a leading packed triangle. Every eigenvalue has its own bisection: one
// thread each, independent of the others, with no iteration that could fail.
#pragma once
#include "triangle.cuh"

namespace pb {

// The number of parts into which each row of a matrix-vector product is cut, so that few rows still keep the threads busy.
PB_SIZE int row_parts(int n, int threads) { return n >= threads ? 1 : threads / n > 8 ? 8 : threads / n; }

// Numbers of scratch for order n: diagonal, off-diagonal, 1 / h of each reflector, a vector, partial products.
PB_SIZE int tridiagonal_scratch(int n, int threads) { return (4 + row_parts(n, threads)) * n; }

// The result of the reduction: T = Q^T A Q with Q = H_{n-1} .. H_1, H_i = I - u_i u_i^T inverse[i].
template <class T> struct Tridiagonal {
  T* diagonal;  // [n]
  T* beside;    // [n], entry i couples i - 1 and i; entry 0 is 0
  T* inverse;   // [n], 0 where H_i = I
  T* vector;    // [n], scratch
  T* parts;     // [row_parts, n], scratch
};

template <class T> PB_BODY Tridiagonal<T> tridiagonal_in(T* scratch, int n) {
  return {scratch, scratch + n, scratch + 2 * n, scratch + 3 * n, scratch + 4 * n};
}

// Reduces `a` (a packed lower triangle with entries of at most 1); row i of it, left of the diagonal, becomes u_i.
template <class T, class Team> PB_BODY void tridiagonalise(Team& team, int n, T* a, Tridiagonal<T> t) {
  const int parts = row_parts(n, team.threads());
  team.each(1, [&](int) { t.beside[0] = t.inverse[0] = T(0); });
  for (int i = n - 1; i >= 1; --i) {
    T* u = a + packed(i, 0);
    const T pivot = u[i - 1];
    const T rest = team.template sum<T>(i - 1, [&](int r) { return u[r] * u[r]; });
    // Below the smallest square with full precision there is nothing to reflect.
    if (rest <= Limits<T>::smallest / Limits<T>::epsilon) {
      team.each(1, [&](int) {
        t.beside[i] = pivot;
        t.inverse[i] = T(0);
      });
      continue;
    }
    const T length = -copysign(sqrt(rest + pivot * pivot), pivot);
    const T inverse = T(1) / (rest + pivot * pivot - pivot * length);
    team.each(1, [&](int) {
      t.beside[i] = length;
      t.inverse[i] = inverse;
      u[i - 1] = pivot - length;
    });
    // p = A u / h over the leading i rows, q = p - (u . p / 2h) u, A -= u q^T + q u^T.
    team.each(parts * i, [&](int item) {
      const int part = item / i, row = item - part * i;
      T dot = T(0);
      int c = part;
      for (; c <= row; c += parts) dot += a[packed(row, c)] * u[c];
      for (; c < i; c += parts) dot += a[packed(c, row)] * u[c];
      t.parts[part * n + row] = dot;
    });
    T* q = t.vector;
    const T along = team.template sum<T>(i, [&](int r) {
      T p = t.parts[r];
      for (int part = 1; part < parts; ++part) p += t.parts[part * n + r];
      q[r] = p * inverse;
      return q[r] * u[r];
    });
    const T half = T(0.5) * along * inverse;
    team.each(i, [&](int r) { q[r] -= half * u[r]; });
    team.each(i * 32, [&](int item) {
      const int r = item / 32;
      const T ur = u[r], qr = q[r];
      for (int c = item % 32; c <= r; c += 32) a[packed(r, c)] -= ur * q[c] + qr * u[c];
    });
  }
  team.each(n, [&](int i) { t.diagonal[i] = a[packed(i, i)]; });
}

// The number of eigenvalues below x: negative pivots of T - x I.
template <class T> PB_BODY int count_below(int n, const T* diagonal, const T* squares, T x, T least) {
  int count = 0;
  T pivot = T(1);
  for (int i = 0; i < n; ++i) {
    pivot = diagonal[i] - x - squares[i] / pivot;
    if (fabs(pivot) < least) pivot = -least;
    count += pivot < T(0);
  }
  return count;
}

// The eigenvalues, descending, accurate to epsilon times the largest; `t.vector` is overwritten. Returns the largest Gershgorin radius.
template <class T, class Team> PB_BODY T bisect(Team& team, int n, Tridiagonal<T> t, T* values) {
  T* squares = t.vector;
  const T reach = team.template max<T>(n, [&](int i) {
    squares[i] = t.beside[i] * t.beside[i];
    return fabs(t.diagonal[i]) + fabs(t.beside[i]) + (i + 1 < n ? fabs(t.beside[i + 1]) : T(0));
  });
  const T least = Limits<T>::smallest / Limits<T>::epsilon;
  const T tolerance = T(0.5) * Limits<T>::epsilon * reach;
  team.each(n, [&](int i) {
    const int wanted = n - i;  // this many eigenvalues are <= the i-th largest
    T low = -reach, high = reach;
    while (high - low > tolerance) {
      const T middle = T(0.5) * (low + high);
      if (middle <= low || middle >= high) break;
      if (count_below(n, t.diagonal, squares, middle, least) >= wanted) {
        high = middle;
      } else {
        low = middle;
      }
    }
    values[i] = T(0.5) * (low + high);
  });
  return reach;
}

}  // namespace pb
