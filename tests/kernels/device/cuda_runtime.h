// Stands in for CUDA's: the device's half of the kernels, launchers included, compiled as C++ and carried out on the host. A
// thread of a block is a fiber that runs from barrier to barrier; blocks follow each other. Dynamic shared memory is as large as
// was asked for and not a byte more, for AddressSanitizer to watch. A barrier that part of a warp or of a block never reaches
// ends the program, and so does a block whose static and dynamic shared memory together exceed what it may have.
#pragma once
#include <math.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __CUDACC__ 1
#define __host__
#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)
#define PB_LAUNCH(kernel, blocks, threads, shared, stream) emulated::Launch<decltype(&kernel)>{&kernel, blocks, threads, shared}
#define PB_DYNAMIC_SHARED static_assert(true)
#define PB_STATIC_SHARED(type, name, count) \
  static type name[count];                  \
  emulated::hold(sizeof name)
#define dynamic_shared emulated::block->shared.data()

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct alignas(16) double2 {
  double x, y;
};
struct Index {
  unsigned x;
};

namespace emulated {

// What a device of compute capability 8.0 has; a test may have less.
inline int shared_limit = 163 * 1024;
// What a kernel may take without asking, static and dynamic memory together.
constexpr int64_t unasked = 48 * 1024;
// The dynamic memory that was asked for, kernel by kernel, and stays asked for.
inline std::map<const void*, int64_t> asked;
// Runs once when somebody has asked: what another thread does before the launch that follows.
inline std::function<void()> after_asking;
// Threads are resumed last first.
inline bool backwards = false;
inline bool without_barriers = false;

constexpr size_t stack_size = 64 * 1024;

// Stacks outlive their blocks: there are many blocks.
inline char* stack_of(unsigned thread) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(new char[stack_size]);
  return stacks[thread].get();
}

struct Fiber {
  ucontext_t context;
  char* stack;
  // 0: may run; 1: at a barrier of its warp; 2: of its block; 3: ended.
  int state = 0;
  char slot[16];
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> threads;
  std::function<void()> body;
  ucontext_t scheduler;
  unsigned at = 0;
  std::vector<unsigned char> shared;
  // Static shared memory that the running thread has come by, and whether its kernel has asked for more than comes unasked.
  int64_t fixed = 0, granted = 0;
};
inline Block* block = nullptr;

inline void take_number();

inline void to_fiber(Fiber& fiber) {
  take_number();
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack, stack_size);
  swapcontext(&block->scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  swapcontext(&block->scheduler, &fiber.context);
#endif
}

inline const void* scheduler_stack = nullptr;
inline size_t scheduler_size = 0;

inline void to_scheduler(int state) {
  Fiber& fiber = *block->threads[block->at];
  fiber.state = state;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(state == 3 ? nullptr : &fake, scheduler_stack, scheduler_size);
  swapcontext(&fiber.context, &block->scheduler);
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
#else
  swapcontext(&fiber.context, &block->scheduler);
#endif
}

inline void wait(int state) {
  if (!without_barriers) to_scheduler(state);
}

inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  block->body();
  to_scheduler(3);
}

// Lets the waiting threads among [first, last) go if all that have not ended wait at this kind of barrier.
inline bool release(unsigned first, unsigned last, int state) {
  bool any = false;
  for (unsigned t = first; t < last; ++t) {
    const int its = block->threads[t]->state;
    if (its != state && its != 3) return false;
    any |= its == state;
  }
  for (unsigned t = first; t < last; ++t) {
    if (block->threads[t]->state == state) block->threads[t]->state = 0;
  }
  return any;
}

inline void run_block(unsigned threads, int64_t shared, int64_t granted, std::function<void()> body) {
  Block here;
  block = &here;
  here.granted = granted;
  here.body = std::move(body);
  here.shared.resize(static_cast<size_t>(shared));
  for (unsigned t = 0; t < threads; ++t) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = stack_of(t);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_size;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
    here.threads.push_back(std::move(fiber));
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (unsigned i = 0; i < threads; ++i) {
      here.at = backwards ? threads - 1 - i : i;
      if (here.threads[here.at]->state != 0) continue;
      to_fiber(*here.threads[here.at]);
      moved = true;
    }
    for (unsigned first = 0; first < threads; first += 32) moved |= release(first, first + 32, 1);
    moved |= release(0, threads, 2);
  }
  for (const auto& fiber : here.threads) {
    if (fiber->state == 3) continue;
    std::puts("a barrier that not all threads reach");
    std::exit(1);
  }
  block = nullptr;
}

template <class Kernel> struct Launch;
template <class... Arguments> struct Launch<void (**)(Arguments...)> {
  void (**kernel)(Arguments...);
  unsigned blocks;
  int threads;
  int64_t shared;

  template <class... Values> void operator()(Values... values) const;
};

}  // namespace emulated

inline Index threadIdx, blockIdx, blockDim;

inline void __syncthreads() { emulated::wait(2); }
inline void __syncwarp() { emulated::wait(1); }
template <class T> T __shfl_xor_sync(unsigned, T value, int offset) {
  auto slot = [](unsigned thread) { return emulated::block->threads[thread]->slot; };
  static_assert(sizeof value <= sizeof(emulated::Fiber::slot));
  std::memcpy(slot(threadIdx.x), &value, sizeof value);
  emulated::wait(1);
  T other;
  std::memcpy(&other, slot(threadIdx.x ^ static_cast<unsigned>(offset)), sizeof other);
  emulated::wait(1);
  return other;
}

namespace emulated {

inline void take_number() { threadIdx.x = block->at; }

// A kernel's static memory counts with its dynamic memory.
inline void hold(size_t bytes) {
  if (threadIdx.x != 0) return;
  block->fixed += static_cast<int64_t>(bytes);
  const auto dynamic = static_cast<int64_t>(block->shared.size()), both = block->fixed + dynamic;
  if (both > shared_limit || (both > unasked && dynamic > block->granted)) {
    std::puts("shared memory, static and dynamic together, that was not asked for");
    std::exit(1);
  }
}

inline cudaError_t last_error = cudaSuccess;

template <class... Arguments> template <class... Values>
void Launch<void (**)(Arguments...)>::operator()(Values... values) const {
  const auto known = asked.find(reinterpret_cast<const void*>(*kernel));
  const int64_t granted = known == asked.end() ? 0 : known->second;
  if (threads % 32 != 0 || threads > 1024 || shared > (granted > unasked ? granted : unasked)) {
    last_error = cudaErrorInvalidValue;
    return;
  }
  for (unsigned b = 0; b < blocks; ++b) {
    blockIdx.x = b;
    blockDim.x = static_cast<unsigned>(threads);
    run_block(blockDim.x, shared, granted, [&] {
      (*kernel)(values...);
    });
  }
}

}  // namespace emulated

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulated::shared_limit;
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (bytes > emulated::shared_limit) return cudaErrorInvalidValue;
  emulated::asked[kernel] = bytes;
  if (const auto meanwhile = std::exchange(emulated::after_asking, nullptr)) meanwhile();
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() {
  const auto error = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return error;
}
inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "invalid value"; }
