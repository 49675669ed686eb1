// libtorch's own profiler (Kineto) as a Chrome trace: operations of every thread, and on CUDA also kernels and copies.
#include "protect.h"
#include "pullback.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <cstdlib>
#include <set>

extern "C" {
const char* pb_trace_begin(int cuda) {
  return protect([&] {
    using torch::profiler::impl::ActivityType;
    torch::profiler::impl::ExperimentalConfig every_thread;
    every_thread.profile_all_threads = true;
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO, false, false, false,
                                                       false, false, every_thread);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (cuda != 0) {
      activities.insert(ActivityType::CUDA);
    } else {
      // Otherwise it would report on stderr, as an error, that there is no GPU.
      setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);
    }
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  });
}

const char* pb_trace_end(const char* path) {
  return protect([&] { torch::autograd::profiler::disableProfiler()->save(path); });
}
}
