// Helpers for every launcher.
#pragma once
#include "team.cuh"

#include <cuda_runtime.h>

#include <cstdint>

// A test that runs blocks on the host (tests/kernels/device) defines these itself.
#ifndef PB_LAUNCH
#define PB_LAUNCH(kernel, blocks, threads, shared, stream) kernel<<<blocks, threads, shared, stream>>>
#define PB_DYNAMIC_SHARED extern __shared__ __align__(16) unsigned char dynamic_shared[]
#define PB_STATIC_SHARED(type, name, count) __shared__ type name[count]
#endif

// The static shared memory of a kernel, for the reductions of a block. Kernels have no other.
#define PB_SLOTS(name) PB_STATIC_SHARED(double2, name, pb::Block::slot_bytes / sizeof(double2))

namespace pb {

// Dynamic shared memory of the running block.
PB_DYNAMIC_SHARED;

inline const char* text(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

// Bytes of shared memory, static and dynamic together, that a block may use without a request.
constexpr int64_t unasked_shared = 48 * 1024;

// Bytes of dynamic shared memory that a block may request on the current device, beside its static ones.
inline int64_t shared_limit() {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return 0;
  return bytes - Block::slot_bytes;
}

// Launches `kernel` with `shared` bytes of dynamic shared memory; larger sizes need a request. The request is a state of the kernel for all
// threads of the process, so it is always for all that there is: threads with jobs of different sizes then do not reduce it for each other.
template <class... Arguments, class... Values>
const char* start(void (*kernel)(Arguments...), int64_t blocks, int threads, int64_t shared, cudaStream_t stream,
                  Values... values) {
  if (blocks == 0) return nullptr;
  // An error of an earlier call is not this launch's error.
  static_cast<void>(cudaGetLastError());
  if (shared + Block::slot_bytes > unasked_shared) {
    const auto error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_limit()));
    if (error != cudaSuccess) return text(error);
  }
  PB_LAUNCH(kernel, static_cast<unsigned>(blocks), threads, shared, stream)(values...);
  return text(cudaGetLastError());
}

}  // namespace pb
