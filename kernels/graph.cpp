// CUDA graphs: work that is captured once and then launched whole. Without CUDA's headers, or with a libtorch without CUDA, each routine
// except pb_graph_free returns an error that says so.
#include "protect.h"
#include "pullback.h"

#ifdef PULLBACK_CUDA_GRAPHS
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <optional>
#include <unordered_map>

namespace {

// Capture is refused on the default stream, and other work that is queued on a capture's stream becomes part of it: so each thread has one
// stream only for captures. It comes from the pool of high priority, because streams are given out in turn, and copies take theirs from the
// other pool (lane.cpp).
c10::cuda::CUDAStream stream_of_captures(c10::DeviceIndex device) {
  static thread_local std::unordered_map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const auto known = streams.find(device);
  if (known != streams.end()) return known->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device)).first->second;
}

// Work queued on `later` from now on begins when `earlier` has done the work that is queued on it until now.
void order(const c10::cuda::CUDAStream& earlier, const c10::cuda::CUDAStream& later) {
  c10::Event done(c10::DeviceType::CUDA);
  done.record(earlier.unwrap());
  done.block(later.unwrap());
}

// The memory of a thread's graphs on a device. Their temporaries may share it, because the graphs are replayed one after another and leave
// no results in it. It is freed with the last graph.
std::shared_ptr<const c10::MempoolId_t> pool_of_captures(c10::DeviceIndex device, const std::shared_ptr<const c10::MempoolId_t>& fresh) {
  static thread_local std::unordered_map<c10::DeviceIndex, std::weak_ptr<const c10::MempoolId_t>> pools;
  auto& known = pools[device];
  if (const auto pool = known.lock()) return pool;
  known = fresh;
  return fresh;
}

template <class F> bool succeeds(F&& body) {
  try {
    body();
    return true;
  } catch (...) {
    return false;
  }
}

// libtorch's graph, which cannot end a capture that was invalidated: its capture_end throws before it informs the allocators.
class Capture : public at::cuda::CUDAGraph {
 public:
  explicit Capture(c10::DeviceIndex device)
      : device_(device), pool_(pool_of_captures(device, std::make_shared<c10::MempoolId_t>(at::cuda::graph_pool_handle()))) {}

  // Thread-local: work of other threads on the device is not part of the graph, and is allowed.
  void begin() {
    capture_begin(*pool_, cudaStreamCaptureModeThreadLocal);
    begun_ = true;
  }

  // Ends a capture that failed, at whatever point, so that stream, allocators and random numbers leave the capture. Any of these may have
  // ended already, and then returns an error.
  void abandon() {
    succeeds([&] { capture_end(); });
    if (capture_ended_) return;  // The captured work is freed with this value.
    const bool held = succeeds([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device_, *pool_); });
    auto* host = at::getHostAllocator(at::kCUDA);
    const bool held_on_host = succeeds([&] { host->end_allocate_to_pool(*pool_); });
    if (begun_ || held) succeeds([&] { c10::cuda::CUDACachingAllocator::releasePool(device_, *pool_); });
    if (begun_ || held_on_host) succeeds([&] { host->release_pool(*pool_); });
    for (const auto& known : captured_generator_states_) known.first->capturing_ = false;
  }

 private:
  c10::DeviceIndex device_;
  std::shared_ptr<const c10::MempoolId_t> pool_;
  bool begun_ = false;
};

// Work that is captured once. Before that it runs on the stream of captures; later it is replayed on the current stream.
class Graph {
 public:
  explicit Graph(c10::DeviceIndex device) : device_(device), own_(stream_of_captures(device)) {}
  ~Graph() {
    // The memory of a graph goes back to the allocator, which does not know about a replay that still runs. A device error is reported by
    // the next call that asks for a result.
    succeeds([&] {
      if (replayed_) replayed_->synchronize();
    });
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // From here to `leave`, the device and its stream of captures are current on this thread.
  void enter() {
    const auto former_device = c10::cuda::ExchangeDevice(device_);
    try {
      const auto former = c10::cuda::getCurrentCUDAStream(device_);
      order(former, own_);
      former_ = former;
    } catch (...) {
      c10::cuda::MaybeExchangeDevice(former_device);
      throw;
    }
    former_device_ = former_device;
    c10::cuda::setCurrentCUDAStream(own_);
  }
  void leave() {
    if (!former_) return;
    const auto former = *former_;
    former_.reset();
    c10::cuda::setCurrentCUDAStream(former);
    c10::cuda::MaybeExchangeDevice(former_device_);
    order(own_, former);
  }

  void begin() {
    capture_ = std::make_unique<Capture>(device_);
    capture_->begin();
  }
  void end() { capture_->capture_end(); }
  void abandon() {
    if (capture_) capture_->abandon();
    capture_.reset();
  }
  void replay() {
    const c10::DeviceGuard guard(c10::Device(c10::DeviceType::CUDA, device_));
    capture_->replay();
    if (!replayed_) replayed_.emplace(c10::DeviceType::CUDA);
    replayed_->record(c10::cuda::getCurrentCUDAStream(device_).unwrap());
  }

 private:
  c10::DeviceIndex device_, former_device_ = -1;
  c10::cuda::CUDAStream own_;
  std::optional<c10::cuda::CUDAStream> former_;
  std::unique_ptr<Capture> capture_;
  // After the last replay.
  std::optional<c10::Event> replayed_;
};

Graph& graph(void* p) { return *static_cast<Graph*>(p); }

}  // namespace

extern "C" {
const char* pb_graph_new(void** result, int64_t device) {
  return protect([&] { *result = new Graph(static_cast<c10::DeviceIndex>(device)); });
}
const char* pb_graph_enter(void* p) {
  return protect([&] { graph(p).enter(); });
}
const char* pb_graph_leave(void* p) {
  return protect([&] { graph(p).leave(); });
}
const char* pb_graph_begin(void* p) {
  return protect([&] { graph(p).begin(); });
}
const char* pb_graph_end(void* p) {
  return protect([&] { graph(p).end(); });
}
const char* pb_graph_abandon(void* p) {
  return protect([&] { graph(p).abandon(); });
}
const char* pb_graph_replay(void* p) {
  return protect([&] { graph(p).replay(); });
}
void pb_graph_free(void* p) { delete static_cast<Graph*>(p); }
}

#else

namespace {
const char* none() {
  return protect([] { TORCH_CHECK(false, "this build has no CUDA graphs"); });
}
}  // namespace

extern "C" {
const char* pb_graph_new(void**, int64_t) { return none(); }
const char* pb_graph_enter(void*) { return none(); }
const char* pb_graph_leave(void*) { return none(); }
const char* pb_graph_begin(void*) { return none(); }
const char* pb_graph_end(void*) { return none(); }
const char* pb_graph_abandon(void*) { return none(); }
const char* pb_graph_replay(void*) { return none(); }
void pb_graph_free(void*) {}
}
#endif
