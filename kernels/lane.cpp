// Copies between host and device beside the computation: on a separate stream, from and to pinned memory, ordered by events. Uses
// libtorch's device-generic streams, so no header of CUDA is needed; without a CUDA device pb_lane_new fails and nothing else is called.
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>

namespace {

constexpr auto kDevice = c10::DeviceType::CUDA;

// A stream of libtorch's pool, whose streams are never destroyed.
struct Lane {
  c10::Stream stream;
};

const Lane& lane(const void* p) { return *static_cast<const Lane*>(p); }
const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }
const c10::Event& event(const void* p) { return *static_cast<const c10::Event*>(p); }

c10::Stream current(c10::Device device) { return c10::impl::VirtualGuardImpl(kDevice).getStream(device); }

}  // namespace

extern "C" {
const char* pb_lane_new(void** result, int64_t device) {
  return protect([&] {
    const c10::impl::VirtualGuardImpl guard(kDevice);
    const c10::Device place(kDevice, static_cast<c10::DeviceIndex>(device));
    *result = new Lane{guard.getStreamFromGlobalPool(place)};
  });
}
void pb_lane_free(void* p) { delete static_cast<Lane*>(p); }

const char* pb_lane_upload(void** result, void** done, const void* p, const void* host, int use_double) {
  return protect([&] {
    const auto stream = lane(p).stream;
    // All allocations below are made on the lane's stream and ordered by it.
    const c10::StreamGuard guard(stream);
    // The allocator of the pinned buffer reuses it only after the copy is done.
    const auto pinned = tensor(host).pin_memory();
    auto there = pinned.to(stream.device(), pinned.scalar_type(), /*non_blocking=*/true);
    there = there.to(use_double != 0 ? at::kDouble : at::kFloat);
    auto copied = std::make_unique<c10::Event>(kDevice);
    copied->record(stream);
    *result = new at::Tensor(std::move(there));
    *done = copied.release();
  });
}

const char* pb_lane_receive(const void* uploaded, const void* done) {
  return protect([&] {
    const auto& there = tensor(uploaded);
    const auto stream = current(there.device());
    event(done).block(stream);
    // When its user frees the memory, it returns to the lane only after the work that the user queued is done.
    there.record_stream(stream);
  });
}

const char* pb_lane_download(void** result, void** done, const void* p, const void* device_tensor) {
  return protect([&] {
    const auto& there = tensor(device_tensor);
    const auto stream = lane(p).stream;
    c10::Event computed(kDevice);
    computed.record(current(there.device()));
    computed.block(stream);
    const c10::StreamGuard guard(stream);
    auto host = at::empty(there.sizes(), there.options().device(at::kCPU).pinned_memory(true));
    host.copy_(there, /*non_blocking=*/true);
    there.record_stream(stream);
    auto copied = std::make_unique<c10::Event>(kDevice);
    copied->record(stream);
    *result = new at::Tensor(std::move(host));
    *done = copied.release();
  });
}

const char* pb_event_wait(const void* done) {
  return protect([&] { event(done).synchronize(); });
}
void pb_event_free(void* done) { delete static_cast<c10::Event*>(done); }
}
