// The host's instance of eigh.cuh: the device's code, block by block.
#include "eigh.cuh"
#include "grain.h"

#include <ATen/Parallel.h>

#include <vector>

namespace pb {

namespace {

template <class T> void eigh_on_host(const Eigh<T>& job) {
  const int threads = block_threads(job.n);
  at::parallel_for(0, job.batch, rows_worth_a_thread(eigen_operations(job.n)), [&](int64_t begin, int64_t end) {
    std::vector<T> fast(fast_room(job.way, job.n, job.k, threads)), slow(slow_room(job.way, job.n, job.k));
    Host team(threads);
    for (int64_t b = begin; b < end; ++b) {
      load_triangle(team, job.n, job.gram + b * job.n * job.n, fast.data());
      solve_triangle(team, job.way, job.sweeps, job.n, job.k, fast.data(), slow.data(), job.values + b * job.n,
                     job.vectors + b * job.k * job.n, job.outcome + b);
    }
  });
}

template <class F> void factors_on_host(const FactorEigh<F>& job) {
  const int threads = factor_threads(job.n);
  at::parallel_for(0, job.batch, rows_worth_a_thread(int64_t{job.n} * job.n * job.d + eigen_operations(job.n)), [&](int64_t begin, int64_t end) {
    std::vector<double> fast(factor_room(job.way, job.n, job.k)), slow(slow_room(job.way, job.n, job.k));
    // On the device only the first warp rotates small matrices.
    const bool alone = job.way == Way::Jacobi && job.n <= warp_order;
    Host team(threads), solver(alone ? 32 : threads);
    for (int64_t b = begin; b < end; ++b) {
      gram_triangle(team, job.factor + b * job.n * job.d, job.n, job.d, fast.data(), fast.data() + triangle_size(job.n));
      solve_triangle(solver, job.way, jacobi_sweeps, job.n, job.k, fast.data(), slow.data(), job.values + b * job.n,
                     job.vectors + b * job.k * job.n, job.outcome + b);
    }
  });
}

}  // namespace

template <> void run_on_host(const Eigh<float>& job) { eigh_on_host(job); }
template <> void run_on_host(const Eigh<double>& job) { eigh_on_host(job); }
template <> void run_on_host(const FactorEigh<float>& job) { factors_on_host(job); }
template <> void run_on_host(const FactorEigh<double>& job) { factors_on_host(job); }

}  // namespace pb
