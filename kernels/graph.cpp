// CUDA graphs: work that is captured once and then launched whole. Built without CUDA's headers, or with a libtorch
// without CUDA, each routine but pb_graph_free says that there are none.
#include "protect.h"
#include "pullback.h"

#ifdef PULLBACK_CUDA_GRAPHS
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

namespace {

// A stream of its own, current on this thread as long as it lives, for capture is refused on the default one. Streams are
// changed rarely, so waiting for the whole device orders them.
class Session {
 public:
  explicit Session(c10::DeviceIndex device)
      : device_(device),
        former_device_(c10::cuda::ExchangeDevice(device)),
        former_(c10::cuda::getCurrentCUDAStream(device)),
        own_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)) {
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(own_);
  }
  ~Session() {
    try {
      c10::cuda::device_synchronize();
    } catch (...) {
      // An error of the device is told by the next call that asks for a result.
    }
    c10::cuda::setCurrentCUDAStream(former_);
    c10::cuda::MaybeExchangeDevice(former_device_);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Thread-local: what other threads do on the device meanwhile is no part of the graph and not forbidden to them.
  void begin() {
    graph_ = std::make_unique<at::cuda::CUDAGraph>();
    graph_->capture_begin(/*pool=*/{0, 0}, cudaStreamCaptureModeThreadLocal);
  }
  void end() { graph_->capture_end(); }
  // A capture that failed has to be ended all the same: both the stream and the allocator are in it.
  void abandon() {
    if (!graph_) return;
    try {
      graph_->capture_end();
    } catch (...) {
      try {
        c10::cuda::CUDACachingAllocator::endAllocateToPool(device_, graph_->pool());
      } catch (...) {
        // It had ended.
      }
    }
    graph_.reset();
  }
  void replay() { graph_->replay(); }

 private:
  c10::DeviceIndex device_, former_device_;
  c10::cuda::CUDAStream former_, own_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

Session& session(void* p) { return *static_cast<Session*>(p); }

}  // namespace

extern "C" {
const char* pb_graph_new(void** result, int64_t device) {
  return protect([&] { *result = new Session(static_cast<c10::DeviceIndex>(device)); });
}
const char* pb_graph_begin(void* graph) {
  return protect([&] { session(graph).begin(); });
}
const char* pb_graph_end(void* graph) {
  return protect([&] { session(graph).end(); });
}
const char* pb_graph_abandon(void* graph) {
  return protect([&] { session(graph).abandon(); });
}
const char* pb_graph_replay(void* graph) {
  return protect([&] { session(graph).replay(); });
}
void pb_graph_free(void* graph) { delete static_cast<Session*>(graph); }
}

#else

namespace {
const char* none() {
  return protect([] { TORCH_CHECK(false, "this build has no CUDA graphs"); });
}
}  // namespace

extern "C" {
const char* pb_graph_new(void**, int64_t) { return none(); }
const char* pb_graph_begin(void*) { return none(); }
const char* pb_graph_end(void*) { return none(); }
const char* pb_graph_abandon(void*) { return none(); }
const char* pb_graph_replay(void*) { return none(); }
void pb_graph_free(void*) {}
}
#endif
