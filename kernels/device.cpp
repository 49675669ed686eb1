// The CUDA device itself: its memory, and waiting for it. Uses libtorch's device-generic interfaces; with CUDA's headers it also knows
// which cached memory belongs to graphs.
#include "protect.h"
#include "pullback.h"

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#ifdef PULLBACK_CUDA_GRAPHS
#include <c10/cuda/CUDACachingAllocator.h>
#endif

#include <algorithm>

namespace {

constexpr auto kDevice = c10::DeviceType::CUDA;

// Bytes of the device that the allocator holds and would give to the next request.
int64_t idle_bytes(c10::DeviceIndex device) {
#ifdef PULLBACK_CUDA_GRAPHS
  int64_t idle = 0;
  for (const auto& segment : c10::cuda::CUDACachingAllocator::snapshot({0, 0}, /*include_traces=*/false).segments) {
    // Idle memory in a graph's pool is only for the graph's replays.
    const bool shared = segment.owner_private_pool_id == c10::MempoolId_t{0, 0};
    if (segment.device == device && shared) idle += static_cast<int64_t>(segment.total_size - segment.active_size);
  }
  return idle;
#else
  const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto stats = c10::getDeviceAllocator(kDevice)->getDeviceStats(device);
  return stats.reserved_bytes[all].current - stats.active_bytes[all].current;
#endif
}

}  // namespace

extern "C" {

const char* pb_cuda_memory(int64_t* free_bytes, int64_t* total_bytes, int64_t device) {
  return protect([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::impl::VirtualGuardImpl devices(kDevice);
    TORCH_CHECK(device >= 0 && device < devices.deviceCount(), "there is no device cuda:", device);
    // Queries the named device, whichever device is current.
    const auto [free_b, total_b] = c10::getDeviceAllocator(kDevice)->getMemoryInfo(index);
    const auto idle = std::max<int64_t>(idle_bytes(index), 0);
    *total_bytes = static_cast<int64_t>(total_b);
    *free_bytes = std::min(static_cast<int64_t>(free_b) + idle, *total_bytes);
  });
}

const char* pb_device_wait(int64_t device) {
  return protect([&] {
    const c10::impl::VirtualGuardImpl devices(kDevice);
    TORCH_CHECK(device >= 0 && device < devices.deviceCount(), "there is no device cuda:", device);
    const auto stream = devices.getStream(c10::Device(kDevice, static_cast<c10::DeviceIndex>(device)));
    // Waits only for this thread's stream: waiting for the whole device breaks the capture of a graph on another thread.
    c10::Event done(kDevice);
    done.record(stream);
    done.synchronize();
  });
}
}
