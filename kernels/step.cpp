// The host's instance of step.cuh: the device's code, sample by sample.
#include "grain.h"
#include "lanes.h"
#include "step.cuh"

#include <ATen/Parallel.h>

namespace pb {

namespace {

// Flattened: what is not inlined would be compiled for the oldest processor.
#define PB_ROWS(T)                                                                                                      \
  PB_EACH_PROCESSOR __attribute__((flatten)) void take_steps(const StepJob<T>& job, int64_t begin, int64_t end) {       \
    Host team(step_threads);                                                                                            \
    for (int64_t b = begin; b < end; ++b) take_step(team, job, b);                                                      \
  }
PB_ROWS(float)
PB_ROWS(double)
#undef PB_ROWS

template <class T> void step_on_host(const StepJob<T>& job) {
  // Projections pass over a row several times.
  at::parallel_for(0, job.batch, rows_worth_a_thread(8 * job.d),
                   [&](int64_t begin, int64_t end) { take_steps(job, begin, end); });
}

}  // namespace

template <> void run_on_host(const StepJob<float>& job) { step_on_host(job); }
template <> void run_on_host(const StepJob<double>& job) { step_on_host(job); }

}  // namespace pb
