// One code for device and host: a kernel's work is written once, as phases over numbered items, and a team runs the phases. On the device a
// team is a warp or a block; on the host one thread runs the items of each phase in turn.
//
// A phase `each(n, f)` runs f(0) .. f(n - 1) in no order and ends in a barrier, so its items must not depend on each other. A reduction
// adds in the order of the device: a stride of the team's threads, a butterfly in each warp, warps in turn. Host and device therefore do
// the same arithmetic, with two differences: the device contracts a * b + c to one rounding, and its library has its own log and exp.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define PB_BODY __device__ inline
#define PB_SIZE __host__ __device__ constexpr
#else
#include <cmath>
#define PB_BODY inline
#define PB_SIZE constexpr
#endif

namespace pb {

#ifndef __CUDACC__
using std::copysign;
using std::exp;
using std::fabs;
using std::frexp;
using std::isfinite;
using std::ldexp;
using std::log;
using std::sqrt;
#endif

// Two numbers that are reduced together.
template <class T> struct Two {
  T a, b;
};

template <class T> struct Limits;
template <> struct Limits<float> {
  static constexpr float epsilon = 1.1920928955078125e-7f;
  static constexpr float smallest = 1.17549435082228751e-38f;  // normal
  static constexpr int exponent = 120;                          // 2^+-exponent are normal
  static constexpr float infinity = __builtin_huge_valf();
  static constexpr float nan = __builtin_nanf("");
};
template <> struct Limits<double> {
  static constexpr double epsilon = 2.220446049250313081e-16;
  static constexpr double smallest = 2.2250738585072013831e-308;
  static constexpr int exponent = 1000;
  static constexpr double infinity = __builtin_huge_val();
  static constexpr double nan = __builtin_nan("");
};

template <class T> PB_BODY T larger(T a, T b) { return a > b ? a : b; }
template <class T> PB_BODY T smaller(T a, T b) { return a < b ? a : b; }
// NaN stays NaN.
template <class T> PB_BODY T clamped(T a, T low, T high) { return a < low ? low : a > high ? high : a; }

// What every team can do, in addition to `each`, `open`, `barrier`, `reduce` and `warps`.
template <class Self> struct Phases {
  template <class T, class F> PB_BODY T sum(int n, F f) {
    return self().template reduce<T>(n, T(0), f, [](T a, T b) { return a + b; });
  }
  // The largest of 0 and all f(i); a NaN is ignored.
  template <class T, class F> PB_BODY T max(int n, F f) {
    return self().template reduce<T>(n, T(0), f, [](T a, T b) { return b > a ? b : a; });
  }

 private:
  PB_BODY Self& self() { return *static_cast<Self*>(this); }
};

#ifdef __CUDACC__

template <class T> __device__ inline T across(T value, int offset) { return __shfl_xor_sync(~0u, value, offset); }
template <class T> __device__ inline Two<T> across(Two<T> value, int offset) {
  return {across(value.a, offset), across(value.b, offset)};
}

// The 32 threads of a warp.
struct Warp : Phases<Warp> {
  __device__ int threads() const { return 32; }
  // A phase without the barrier.
  template <class F> __device__ void open(int n, F f) {
    for (int i = threadIdx.x & 31; i < n; i += 32) f(i);
  }
  template <class F> __device__ void each(int n, F f) {
    open(n, f);
    barrier();
  }
  __device__ void barrier() { __syncwarp(); }
  template <class T, class F, class Op> __device__ T reduce(int n, T zero, F f, Op op) {
    T value = zero;
    for (int i = threadIdx.x & 31; i < n; i += 32) value = op(value, f(i));
    for (int offset = 16; offset > 0; offset /= 2) value = op(value, across(value, offset));
    __syncwarp();
    return op(zero, value);
  }
  // n pieces of work; each needs a whole warp.
  template <class F> __device__ void warps(int n, F f) {
    for (int i = 0; i < n; ++i) f(*this, i);
  }
};

// All threads of a block, a multiple of 32; `slots` is shared memory for 2 x 32 values of 16 bytes.
class Block : public Phases<Block> {
 public:
  static constexpr int slot_bytes = 2 * 32 * 16;
  __device__ explicit Block(void* slots) : slots_(static_cast<char*>(slots)) {}
  __device__ int threads() const { return blockDim.x; }
  template <class F> __device__ void open(int n, F f) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) f(i);
  }
  template <class F> __device__ void each(int n, F f) {
    open(n, f);
    barrier();
  }
  __device__ void barrier() { __syncthreads(); }
  template <class T, class F, class Op> __device__ T reduce(int n, T zero, F f, Op op) {
    T value = zero;
    for (int i = threadIdx.x; i < n; i += blockDim.x) value = op(value, f(i));
    for (int offset = 16; offset > 0; offset /= 2) value = op(value, across(value, offset));
    // Two sets of slots take turns: a thread that writes a set has passed the barrier after all reads of its last use.
    T* slots = reinterpret_cast<T*>(slots_ + turn_ * (slot_bytes / 2));
    turn_ ^= 1;
    if ((threadIdx.x & 31) == 0) slots[threadIdx.x / 32] = value;
    __syncthreads();
    T total = zero;
    for (int warp = 0; warp < blockDim.x / 32; ++warp) total = op(total, slots[warp]);
    return total;
  }
  template <class F> __device__ void warps(int n, F f) {
    for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
      Warp warp;
      f(warp, i);
    }
    __syncthreads();
  }

 private:
  char* slots_;
  int turn_ = 0;
};

#else

// A block of `threads` threads (a multiple of 32, at most 1024); one thread of the host runs them all.
class Host : public Phases<Host> {
 public:
  explicit Host(int threads) : threads_(threads) {}
  int threads() const { return threads_; }
  template <class F> void open(int n, F f) {
    for (int i = 0; i < n; ++i) f(i);
  }
  template <class F> void each(int n, F f) { open(n, f); }
  void barrier() {}
  template <class T, class F, class Op> T reduce(int n, T zero, F f, Op op) {
    T part[1024];
    const int used = n < threads_ ? (n + 31) / 32 * 32 : threads_;
    for (int t = 0; t < used; ++t) part[t] = zero;
    for (int first = 0; first < n; first += threads_) {
      const int count = n - first < threads_ ? n - first : threads_;
      for (int t = 0; t < count; ++t) part[t] = op(part[t], f(first + t));
    }
    T total = zero;
    for (int warp = 0; warp < used; warp += 32) {
      T* lane = part + warp;
      for (int offset = 16; offset > 0; offset /= 2) {
        for (int l = 0; l < offset; ++l) lane[l] = op(lane[l], lane[l + offset]);
      }
      total = op(total, lane[0]);
    }
    return total;
  }
  template <class F> void warps(int n, F f) {
    for (int i = 0; i < n; ++i) {
      Host warp(32);
      f(warp, i);
    }
  }

 private:
  int threads_;
};

#endif

}  // namespace pb
