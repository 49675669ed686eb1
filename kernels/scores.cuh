// All scores of one spectrum in one pass (docs/mathematics.md), in the order of src/score/mod.rs. One warp for each spectrum.
#pragma once
#include "team.cuh"

namespace pb {

constexpr int score_count = 10;
constexpr double rank_cut = 1e-10;  // RANK_CUT of src/spectrum/mod.rs

// values [n] descending, >= 0; scores [10].
template <class Team> PB_BODY void score_spectrum(Team& team, int n, const double* values, double* scores) {
  const double top = values[0];
  const double nan = Limits<double>::nan;
  const double trace = team.template sum<double>(n, [&](int i) { return values[i]; });
  // If every eigenvalue is 0, p_i is taken as 0, and 0 ln 0 as 0.
  const double entropy = team.template sum<double>(n, [&](int i) {
    const double p = trace == 0.0 ? 0.0 : values[i] / trace;
    return p == 0.0 ? 0.0 : -p * log(p);
  });
  const double by_largest = team.template sum<double>(n, [&](int i) {
    const double s = values[i] / top;
    return -s * log(s + 1e-10);
  });
  const double cut = top * rank_cut;
  const auto counted = team.template reduce<Two<double>>(
      n, Two<double>{0.0, 0.0},
      [&](int i) { return values[i] > cut ? Two<double>{1.0, log(values[i])} : Two<double>{0.0, 0.0}; },
      [](Two<double> x, Two<double> y) { return Two<double>{x.a + y.a, x.b + y.b}; });
  team.each(1, [&](int) {
    const int rank = static_cast<int>(counted.a);
    const double shannon = entropy < 0.0 ? 0.0 : entropy;
    scores[0] = top;
    scores[1] = trace;
    scores[2] = shannon;
    scores[3] = top == 0.0 ? nan : by_largest;
    scores[4] = counted.a;
    scores[5] = counted.b;
    scores[6] = exp(shannon);
    scores[7] = top == 0.0 ? nan : top / trace;
    scores[8] = top == 0.0 ? nan : trace / top;
    // The values descend, so the last one counted is the smallest.
    scores[9] = rank == 0 ? nan : top / values[rank - 1];
  });
}

}  // namespace pb
