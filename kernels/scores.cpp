// The host's instance of scores.cuh: the device's code, spectrum by spectrum.
#include "jobs.h"
#include "scores.cuh"

#include <ATen/Parallel.h>

namespace pb {

template <> void run_on_host(const Scores& job) {
  at::parallel_for(0, job.batch, 64, [&](int64_t begin, int64_t end) {
    Host warp(32);
    for (int64_t b = begin; b < end; ++b) score_spectrum(warp, job.n, job.values + b * job.n, job.scores + b * score_count);
  });
}

}  // namespace pb
