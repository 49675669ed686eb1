// Launchers of eigh.cuh: one warp for each matrix for rotations up to order 32, otherwise one block for each matrix; in shared memory if it
// fits, otherwise in global memory.
#include "eigh.cuh"
#include "launch.cuh"

namespace pb {

namespace {

// Warps in a block; each solves one matrix.
constexpr int crowd = 4;

template <class T> __global__ void __launch_bounds__(32 * crowd) rotate_in_warps(Eigh<T> job) {
  const int64_t b = int64_t{blockIdx.x} * crowd + threadIdx.x / 32;
  if (b >= job.batch) return;
  T* fast = reinterpret_cast<T*>(dynamic_shared) + threadIdx.x / 32 * fast_room(Way::Jacobi, job.n, job.k, 32);
  Warp warp;
  load_triangle(warp, job.n, job.gram + b * job.n * job.n, fast);
  solve_triangle(warp, Way::Jacobi, job.sweeps, job.n, job.k, fast, static_cast<T*>(nullptr), job.values + b * job.n,
                 job.vectors + b * job.k * job.n, job.outcome + b);
}

template <class T, Way way, bool shared> __global__ void __launch_bounds__(256) solve_in_blocks(Eigh<T> job) {
  PB_SLOTS(slots);
  const int64_t b = blockIdx.x, fast_size = fast_room(way, job.n, job.k, blockDim.x), slow_size = slow_room(way, job.n, job.k);
  T* slow = job.room + b * slow_size;
  T* fast = shared ? reinterpret_cast<T*>(dynamic_shared) : job.room + job.batch * slow_size + b * fast_size;
  Block block(slots);
  load_triangle(block, job.n, job.gram + b * job.n * job.n, fast);
  solve_triangle(block, way, job.sweeps, job.n, job.k, fast, slow, job.values + b * job.n,
                 job.vectors + b * job.k * job.n, job.outcome + b);
}

template <class F, Way way> __global__ void __launch_bounds__(160) solve_factors(FactorEigh<F> job) {
  PB_SLOTS(slots);
  const int64_t b = blockIdx.x;
  double* fast = reinterpret_cast<double*>(dynamic_shared);
  double* slow = job.room + b * slow_room(way, job.n, job.k);
  double *values = job.values + b * job.n, *vectors = job.vectors + b * job.k * job.n;
  Block block(slots);
  // The panel uses the memory of the solver's later scratch.
  gram_triangle(block, job.factor + b * job.n * job.d, job.n, job.d, fast, fast + triangle_size(job.n));
  if (way == Way::Jacobi && job.n <= warp_order) {
    if (threadIdx.x >= 32) return;
    Warp warp;
    solve_triangle(warp, way, jacobi_sweeps, job.n, job.k, fast, slow, values, vectors, job.outcome + b);
  } else {
    solve_triangle(block, way, jacobi_sweeps, job.n, job.k, fast, slow, values, vectors, job.outcome + b);
  }
}

template <class T> bool in_warps(const Eigh<T>& job) { return job.way == Way::Jacobi && job.n <= warp_order; }

template <class T> int64_t fast_bytes(const Eigh<T>& job) {
  return fast_room(job.way, job.n, job.k, block_threads(job.n)) * int64_t{sizeof(T)};
}

template <class T> bool fits(const Eigh<T>& job) { return fast_bytes(job) <= shared_limit(); }

}  // namespace

template <class T> int64_t room_of(const Eigh<T>& job) {
  const int64_t fast = in_warps(job) || fits(job) ? 0 : fast_room(job.way, job.n, job.k, block_threads(job.n));
  return job.batch * (slow_room(job.way, job.n, job.k) + fast);
}

template <class T> const char* start_eigh(const Eigh<T>& job, Stream stream) {
  if (in_warps(job)) {
    return start(rotate_in_warps<T>, (job.batch + crowd - 1) / crowd, 32 * crowd, crowd * fast_bytes(job), stream, job);
  }
  const int threads = block_threads(job.n);
  const bool jacobi = job.way == Way::Jacobi;
  if (fits(job)) {
    return start(jacobi ? solve_in_blocks<T, Way::Jacobi, true> : solve_in_blocks<T, Way::Tridiagonal, true>, job.batch,
                 threads, fast_bytes(job), stream, job);
  }
  return start(jacobi ? solve_in_blocks<T, Way::Jacobi, false> : solve_in_blocks<T, Way::Tridiagonal, false>, job.batch,
               threads, 0, stream, job);
}

template <> int64_t device_room(const Eigh<float>& job) { return room_of(job); }
template <> int64_t device_room(const Eigh<double>& job) { return room_of(job); }
template <> const char* launch(const Eigh<float>& job, Stream stream) { return start_eigh(job, stream); }
template <> const char* launch(const Eigh<double>& job, Stream stream) { return start_eigh(job, stream); }

template <class F> const char* start_factors(const FactorEigh<F>& job, Stream stream) {
  const int threads = factor_threads(job.n);
  const int64_t shared = factor_room(job.way, job.n, job.k) * int64_t{sizeof(double)};
  return start(job.way == Way::Jacobi ? solve_factors<F, Way::Jacobi> : solve_factors<F, Way::Tridiagonal>, job.batch,
               threads, shared, stream, job);
}

template <> int64_t device_room(const FactorEigh<float>& job) { return job.batch * slow_room(job.way, job.n, job.k); }
template <> int64_t device_room(const FactorEigh<double>& job) { return job.batch * slow_room(job.way, job.n, job.k); }
template <> const char* launch(const FactorEigh<float>& job, Stream stream) { return start_factors(job, stream); }
template <> const char* launch(const FactorEigh<double>& job, Stream stream) { return start_factors(job, stream); }

}  // namespace pb
