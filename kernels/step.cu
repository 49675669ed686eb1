// Launcher of step.cuh: one block for each sample.
#include "launch.cuh"
#include "step.cuh"

namespace pb {

namespace {

template <class T> __global__ void __launch_bounds__(256) step_in_blocks(StepJob<T> job) {
  PB_SLOTS(slots);
  Block block(slots);
  take_step(block, job, int64_t{blockIdx.x});
}

}  // namespace

template <> const char* launch(const StepJob<float>& job, Stream stream) {
  return start(step_in_blocks<float>, job.batch, step_threads, 0, stream, job);
}
template <> const char* launch(const StepJob<double>& job, Stream stream) {
  return start(step_in_blocks<double>, job.batch, step_threads, 0, stream, job);
}

}  // namespace pb
