// Launcher of scores.cuh: one warp for each spectrum.
#include "jobs.h"
#include "launch.cuh"
#include "scores.cuh"

namespace pb {

namespace {

constexpr int crowd = 8;  // warps in a block

__global__ void __launch_bounds__(32 * crowd) score_in_warps(Scores job) {
  const int64_t b = int64_t{blockIdx.x} * crowd + threadIdx.x / 32;
  if (b >= job.batch) return;
  Warp warp;
  score_spectrum(warp, job.n, job.values + b * job.n, job.scores + b * score_count);
}

}  // namespace

template <> const char* launch(const Scores& job, Stream stream) {
  return start(score_in_warps, (job.batch + crowd - 1) / crowd, 32 * crowd, 0, stream, job);
}

}  // namespace pb
