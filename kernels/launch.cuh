// What every launcher needs.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

// A test that carries blocks out on the host (tests/kernels/device) has its own words for these two.
#ifndef PB_LAUNCH
#define PB_LAUNCH(kernel, blocks, threads, shared, stream) kernel<<<blocks, threads, shared, stream>>>
#define PB_DYNAMIC_SHARED extern __shared__ __align__(16) unsigned char dynamic_shared[]
#endif

namespace pb {

// Dynamic shared memory of the running block.
PB_DYNAMIC_SHARED;

inline const char* text(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

// Bytes of dynamic shared memory that a block may ask for on the current device, beside `fixed` static ones.
inline int64_t shared_limit(int fixed) {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return 0;
  return bytes - fixed;
}

// Launches `kernel` with dynamic shared memory beyond the 48 KB that need no asking.
template <class... Arguments, class... Values>
const char* start(void (*kernel)(Arguments...), int64_t blocks, int threads, int64_t shared, cudaStream_t stream,
                  Values... values) {
  if (blocks == 0) return nullptr;
  if (shared > 48 * 1024) {
    const auto error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) return text(error);
  }
  PB_LAUNCH(kernel, static_cast<unsigned>(blocks), threads, shared, stream)(values...);
  return text(cudaGetLastError());
}

}  // namespace pb
