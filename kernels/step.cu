// Launcher of step.cuh: one block a sample.
#include "launch.cuh"
#include "step.cuh"

namespace pb {

namespace {

template <class T> __global__ void __launch_bounds__(256) ascend_in_blocks(Ascent<T> job) {
  PB_SLOTS(slots);
  Block block(slots);
  advance(block, job, int64_t{blockIdx.x});
}

}  // namespace

template <> const char* launch(const Ascent<float>& job, Stream stream) {
  return start(ascend_in_blocks<float>, job.batch, step_threads, 0, stream, job);
}
template <> const char* launch(const Ascent<double>& job, Stream stream) {
  return start(ascend_in_blocks<double>, job.batch, step_threads, 0, stream, job);
}

}  // namespace pb
