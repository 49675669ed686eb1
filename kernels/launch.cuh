// What every launcher needs.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace pb {

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
  kernel<<<static_cast<unsigned>(blocks), threads, shared, stream>>>(values...);
  return text(cudaGetLastError());
}

}  // namespace pb
