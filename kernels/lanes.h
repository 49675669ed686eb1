// Vectors for loops of our own over f32 on the host.
#pragma once
#include <cstdint>
#include <type_traits>

// A routine is compiled for each generation of processors, and the loader takes the best. Elsewhere it is the compiler's own choice.
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define PB_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PB_EACH_PROCESSOR
#endif
#define PB_INLINE __attribute__((always_inline)) inline
// Of a lambda, after its parameters: without it its body would be compiled for the oldest processor.
#define PB_INLINE_LAMBDA __attribute__((always_inline))

namespace pb {

constexpr int64_t kLanes = 8;
// Pixels whose sums are in registers at a time: with two vectors each, 12 of 16 registers.
constexpr int64_t kPixels = 6;

typedef float Lanes __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// f(std::integral_constant<int, count>) for a count of 1 to kPixels.
template <class F> PB_INLINE void of_pixels(int64_t count, F&& f) {
  switch (count) {
    case 1: f(std::integral_constant<int, 1>()); break;
    case 2: f(std::integral_constant<int, 2>()); break;
    case 3: f(std::integral_constant<int, 3>()); break;
    case 4: f(std::integral_constant<int, 4>()); break;
    case 5: f(std::integral_constant<int, 5>()); break;
    default: f(std::integral_constant<int, 6>());
  }
}

}  // namespace pb
