// One step of a projected gradient ascent: the best iterate is kept, then come the gradient's admissible part, its steepest direction, the
// move, the ball, the box. One block for each sample; what later phases read again is in the cache.
//
// The same as `Budget::uphill` and `contract` of src/attack/budget.rs one after the other, with sums in double. L1: the largest entries
// take the step, each as far as its wall; soft thresholding reaches the ball. Sphere: the other pixels make up for what the box cuts off.
// Source: Duchi et al. 2008 (projection onto the simplex); Michelot 1986 (the threshold; its active set only shrinks, so that it is exact
// after finitely many passes).
#pragma once
#include "jobs.h"
#include "team.cuh"

namespace pb {

// Threads in a block.
constexpr int step_threads = 256;

template <class T> PB_BODY Step<T> step_of(const StepJob<T>& job) {
  return {job.move.ball, job.move.low, job.move.high, static_cast<T>(job.lengths[1]), static_cast<T>(job.lengths[0])};
}

// Takes x [d] as the best if its damage is larger, or is a number while the old damage is NaN.
template <class T, class Team> PB_BODY void keep_best(Team& team, int d, double value, const T* x, T* best, double* damage) {
  const double before = *damage;
  if (value > before || (before != before && value == value)) {
    // The barrier after this phase separates the read above from the write below.
    team.each(d, [&](int i) { best[i] = x[i]; });
    team.each(1, [&](int) { *damage = value; });
  }
}

// The factor by which a step [d] is lengthened, from a length that is too small, so that it has the ball's radius after the box has cut it
// off. A pixel at a wall stays there when the rest grows, so the set of such pixels only grows and the passes end.
template <class T, class Team>
PB_BODY T scale_to_sphere(Team& team, Step<T> move, int d, const T* x0, const T* step, T scale) {
  for (int pass = 0; pass < d; ++pass) {
    const auto parts = team.template reduce<Two<double>>(
        d, Two<double>{0.0, 0.0},
        [&](int i) {
          const double s = step[i], wall = double(s > 0.0 ? move.high : move.low) - x0[i];
          // An x0 outside the box has a wall on the wrong side, which holds the pixel as well.
          const bool held = s > 0.0 ? s * scale >= wall : s * scale <= wall;
          return held ? Two<double>{wall * wall, 0.0} : Two<double>{0.0, s * s};
        },
        [](Two<double> p, Two<double> q) { return Two<double>{p.a + q.a, p.b + q.b}; });
    const double left = double(move.radius) * move.radius - parts.a;
    const T better = parts.b > 0.0 && left > 0.0 ? T(sqrt(left / parts.b)) : scale;
    // If pixels no longer end the passes, rounding does.
    if (!(better > scale * (T(1) + T(4) * Limits<T>::epsilon)) || !isfinite(better)) break;
    scale = better;
  }
  return scale;
}

// next [d], which may be x, from x0, x and the gradient g, [d] each. *stalled becomes true if g is 0 everywhere or not finite somewhere.
template <class T, class Team>
PB_BODY void step_within(Team& team, Step<T> move, int d, const T* x0, const T* x, const T* g, T* next, bool* stalled) {
  // Without branches, because the signs of noise would cause mispredictions on the host.
  const auto usable = [&](int i) {
    const T v = g[i];
    const bool held = ((x[i] <= move.low) & (v < T(0))) | ((x[i] >= move.high) & (v > T(0)));
    return bool(isfinite(v)) & !held ? v : T(0);
  };
  const T infinite = Limits<T>::infinity;
  const T seen = team.template max<T>(d, [&](int i) { return isfinite(g[i]) ? fabs(g[i]) : infinite; });
  team.each(1, [&](int) { *stalled = *stalled || seen == T(0) || seen == infinite; });

  const auto boxed = [&](T v) { return clamped(v, move.low, move.high); };
  if (move.ball == Ball::Linf) {
    team.each(d, [&](int i) {
      const T v = usable(i);
      const T moved = x[i] + T((v > T(0)) - (v < T(0))) * move.reach;
      next[i] = boxed(x0[i] + clamped(moved - x0[i], -move.radius, move.radius));
    });
    return;
  }

  const T peak = team.template max<T>(d, [&](int i) { return fabs(usable(i)); });
  if (move.ball == Ball::L2 || move.ball == Ball::Sphere) {
    // The gradient is divided by its largest entry first, so that squares of tiny gradients do not underflow.
    const T unit = peak == T(0) ? T(1) : peak;
    const double squares = team.template sum<double>(d, [&](int i) {
      const double v = usable(i) / unit;
      return v * v;
    });
    const T length = larger(T(sqrt(squares)), T(1));
    const auto step = [&](int i) { return x[i] + usable(i) / unit / length * move.reach - x0[i]; };
    const double reached = team.template sum<double>(d, [&](int i) {
      const double s = step(i);
      return s * s;
    });
    // The smallest positive single prevents 0 / 0.
    const T size = larger(T(sqrt(reached)), T(Limits<float>::smallest));
    const T shrink = reached > 0.0 ? move.radius / size : T(1);
    if (move.ball == Ball::Sphere) {
      // The step overwrites x, from which it is made, so that the passes over it are short.
      team.each(d, [&](int i) { next[i] = step(i); });
      const T scale = scale_to_sphere(team, move, d, x0, next, shrink);
      team.each(d, [&](int i) { next[i] = boxed(x0[i] + next[i] * scale); });
      return;
    }
    const T within = smaller(shrink, T(1));
    team.each(d, [&](int i) { next[i] = boxed(x0[i] + step(i) * within); });
    return;
  }

  // L1: pixels move in the order of their gradients, each as far as its wall, until the step has its length. A single pixel would be cut
  // off by the box, after the ball has already made room for all of it.
  const double reach = move.reach;
  const auto room = [&](int i) {
    const T v = usable(i);
    const double wall = v > T(0) ? double(move.high) - x[i] : v < T(0) ? double(x[i]) - move.low : 0.0;
    return smaller(wall, reach);
  };
  const auto beyond = [&](T least) {
    return team.template sum<double>(d, [&](int i) { return fabs(usable(i)) > least ? room(i) : 0.0; });
  };
  // The least gradient that moves: an interval around it is halved until its ends are neighbouring numbers.
  T least = T(0);
  if (beyond(least) >= reach) {
    T below = T(0);
    least = peak;
    for (T middle = peak / T(2); middle > below && middle < least; middle = below + (least - below) / T(2)) {
      if (beyond(middle) < reach) {
        least = middle;
      } else {
        below = middle;
      }
    }
  }
  const double left = reach - beyond(least);
  const double tied = team.template sum<double>(d, [&](int i) { return fabs(usable(i)) == least ? room(i) : 0.0; });
  const double share = tied > 0.0 ? smaller(left / tied, 1.0) : 0.0;
  const auto step = [&](int i) {
    const T v = fabs(usable(i));
    const double part = v > least ? 1.0 : v == least ? share : 0.0;
    return x[i] + copysign(T(part * room(i)), g[i]) - x0[i];
  };
  double threshold = 0.0;
  const double total = team.template sum<double>(d, [&](int i) { return fabs(double(step(i))); });
  if (total > move.radius) {
    threshold = (total - move.radius) / d;
    for (int pass = 0; pass < d; ++pass) {
      const auto active = team.template reduce<Two<double>>(
          d, Two<double>{0.0, 0.0},
          [&](int i) {
            const double s = fabs(double(step(i)));
            return s > threshold ? Two<double>{s, 1.0} : Two<double>{0.0, 0.0};
          },
          [](Two<double> p, Two<double> q) { return Two<double>{p.a + q.a, p.b + q.b}; });
      const double better = active.b > 0.0 ? (active.a - move.radius) / active.b : threshold;
      if (better <= threshold) break;
      threshold = better;
    }
  }
  team.each(d, [&](int i) {
    const double s = step(i), rest = fabs(s) - threshold;
    next[i] = boxed(x0[i] + T(rest > 0.0 ? copysign(rest, s) : 0.0));
  });
}

// The whole step of sample b.
template <class T, class Team> PB_BODY void take_step(Team& team, const StepJob<T>& job, int64_t b) {
  const int64_t row = b * job.d;
  T* x = job.x + row;
  keep_best(team, job.d, job.value[b], x, job.best + row, job.damage + b);
  step_within(team, step_of(job), job.d, job.x0 + row, x, job.gradient + row, x, job.stalled + b);
}

}  // namespace pb
