// The peak of live bytes between two calls on a thread.
#include "protect.h"
#include "pullback.h"

#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>
#include <c10/util/Flags.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/profiler/orchestration/observer.h>

#include <algorithm>
#include <memory>
#include <mutex>

C10_DECLARE_int(caffe2_log_level);

namespace {

// Adds up live bytes; c10's allocators report to it through the thread's debug info. Backward passes on CUDA run on
// autograd's own thread, which inherits the debug info, hence the lock. It is a profiler's state, one that profiles nothing, because
// libtorch takes whatever stands in this place for one: a Function written in Python asks it for its configuration.
class MemoryCounter : public torch::profiler::impl::ProfilerStateBase {
 public:
  MemoryCounter()
      : ProfilerStateBase(torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::Disabled)) {}
  torch::profiler::impl::ActiveProfilerType profilerType() override {
    return torch::profiler::impl::ActiveProfilerType::NONE;
  }
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    std::lock_guard<std::mutex> lock(mutex_);
    live_ += size;
    peak_ = std::max(peak_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  std::mutex mutex_;
  int64_t live_ = 0, peak_ = 0;
};

struct MemoryScope {
  std::shared_ptr<MemoryCounter> counter = std::make_shared<MemoryCounter>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, counter};
};
thread_local std::unique_ptr<MemoryScope> memory_scope;

}  // namespace

extern "C" {

const char* pb_memory_begin() {
  return protect([&] {
    // libtorch's counter warns, once and on stderr, of every block that was allocated before the count began; here that is expected.
    FLAGS_caffe2_log_level = std::max<int>(FLAGS_caffe2_log_level, 2 /* errors only */);
    TORCH_CHECK(!memory_scope, "memory is being counted on this thread already");
    memory_scope = std::make_unique<MemoryScope>();
  });
}

const char* pb_memory_end(int64_t* peak) {
  return protect([&] {
    TORCH_CHECK(memory_scope, "memory is not being counted on this thread");
    *peak = memory_scope->counter->peak();
    memory_scope.reset();
  });
}
}
