// Eigenpairs of a small symmetric matrix by parallel two-sided Jacobi rotations.
//
// Source: Golub & Van Loan, Matrix Computations, 4th ed., sections 8.5.2 (rotation), 8.5.5 (tournament); Brent & Luk 1985.
// A round of the tournament pairs all rows; its rotations commute, and divide the matrix into 2 x 2 blocks, each of which needs only its
// own four entries and two angles: a round is one phase for the angles and one for all blocks. A sweep of m - 1 rounds contains every pair
// once. Rotations whose entry is at most epsilon |A|_F / n are left out. The iteration ends with a sweep that needs none; then the error of
// each eigenvalue is at most epsilon |A|_F plus rounding (Gershgorin).
#pragma once
#include "triangle.cuh"

namespace pb {

// Numbers of scratch for order n: cosine, sine and tangent of each pair, and how often it turned in this sweep.
PB_SIZE int jacobi_scratch(int n) { return 4 * ((n + 1) / 2); }

// item / by without the device's slow integer division: multiplies by the inverse and corrects rounding.
PB_BODY int quotient(int item, int by, float inverse) {
  const int q = static_cast<int>(static_cast<float>(item) * inverse);
  return q * by > item ? q - 1 : (q + 1) * by <= item ? q + 1 : q;
}

// The rows that meet as pair `i` of `round`, p < q; q >= n: p has no partner.
PB_BODY void tournament(int players, int round, int i, int& p, int& q) {
  const int circle = players - 1, ahead = round + i, behind = round - i;
  const int one = i == 0 ? circle : ahead < circle ? ahead : ahead - circle;
  const int two = behind >= 0 ? behind : behind + circle;
  p = smaller(one, two);
  q = larger(one, two);
}

// Diagonalises `a`, a packed lower triangle; its diagonal becomes the eigenvalues, in no order. Row i of vt [n, n], if not null, becomes
// the unit eigenvector of the i-th. False if `sweeps` were not enough.
template <class T, class Team> PB_BODY bool jacobi(Team& team, int sweeps, int n, T* a, T* vt, T* scratch) {
  const int players = n + (n & 1), half = players / 2;
  const float by_n = 1.0f / static_cast<float>(n), by_half = 1.0f / static_cast<float>(half);
  T *cosine = scratch, *sine = scratch + half, *tangent = scratch + 2 * half, *turns = scratch + 3 * half;
  if (vt != nullptr) team.each(n * n, [&](int i) { vt[i] = i / n == i % n ? T(1) : T(0); });
  const T squares = team.template sum<T>(triangle_size(n), [&](int i) { return a[i] * a[i]; });
  // Only one of the two triangles is stored, so |A|_F is at most sqrt 2 times this.
  const T negligible = Limits<T>::epsilon * sqrt(squares) / T(n);
  const auto entry = [&](int i, int j) -> T& { return a[i >= j ? packed(i, j) : packed(j, i)]; };

  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (int round = 0; round < players - 1; ++round) {
      team.each(half, [&](int i) {
        int p, q;
        tournament(players, round, i, p, q);
        T c = T(1), s = T(0), t = T(0);
        if (q < n) {
          const T off = a[packed(q, p)];
          if (fabs(off) > negligible) {
            const T tau = (a[packed(q, q)] - a[packed(p, p)]) / (T(2) * off);
            t = copysign(T(1), tau) / (fabs(tau) + sqrt(T(1) + tau * tau));
            c = T(1) / sqrt(T(1) + t * t);
            s = t * c;
          }
        }
        cosine[i] = c, sine[i] = s, tangent[i] = t;
        turns[i] = (round == 0 ? T(0) : turns[i]) + (s == T(0) ? T(0) : T(1));
      });
      if (vt != nullptr) {
        team.open(half * n, [&](int item) {
          const int i = quotient(item, n, by_n), r = item - i * n;
          const T c = cosine[i], s = sine[i];
          if (s == T(0)) return;
          int p, q;
          tournament(players, round, i, p, q);
          const T x = vt[p * n + r], y = vt[q * n + r];
          vt[p * n + r] = c * x - s * y;
          vt[q * n + r] = s * x + c * y;
        });
      }
      // Every unordered pair of pairs once: item -> (i, i + item / half), wrapped around.
      team.each(half * (half + 1) / 2, [&](int item) {
        const int apart = quotient(item, half, by_half), i = item - apart * half;
        const int j = i + apart < half ? i + apart : i + apart - half;
        const T ci = cosine[i], si = sine[i], cj = cosine[j], sj = sine[j];
        if (si == T(0) && sj == T(0)) return;
        int p, q, u, v;
        tournament(players, round, i, p, q);
        if (apart == 0) {
          const T shift = tangent[i] * a[packed(q, p)];
          a[packed(p, p)] -= shift;
          a[packed(q, q)] += shift;
          a[packed(q, p)] = T(0);
          return;
        }
        tournament(players, round, j, u, v);
        // A row without a partner has no second entry.
        const bool whole_i = q < n, whole_j = v < n;
        const T pu = entry(p, u), pv = whole_j ? entry(p, v) : T(0);
        const T qu = whole_i ? entry(q, u) : T(0), qv = whole_i && whole_j ? entry(q, v) : T(0);
        const T ru = ci * pu - si * qu, rv = ci * pv - si * qv, su = si * pu + ci * qu, sv = si * pv + ci * qv;
        entry(p, u) = cj * ru - sj * rv;
        if (whole_j) entry(p, v) = sj * ru + cj * rv;
        if (whole_i) entry(q, u) = cj * su - sj * sv;
        if (whole_i && whole_j) entry(q, v) = sj * su + cj * sv;
      });
    }
    if (team.template sum<T>(half, [&](int i) { return turns[i]; }) == T(0)) return true;
  }
  return false;
}

}  // namespace pb
