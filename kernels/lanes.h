// Vectors for loops of our own over f32 on the host.
#pragma once
#include <cstdint>
#include <type_traits>

// A routine is compiled for each generation of processors, and the loader takes the best. Elsewhere it is the compiler's own choice.
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define PB_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define PB_WITH_512_BITS __attribute__((target("arch=x86-64-v4")))
#define PB_WITH_256_BITS __attribute__((target("arch=x86-64-v3")))
#else
#define PB_EACH_PROCESSOR
#endif
#define PB_INLINE __attribute__((always_inline)) inline
// Of a lambda, after its parameters: without it its body would be compiled for the oldest processor.
#define PB_INLINE_LAMBDA __attribute__((always_inline))

namespace pb {

constexpr int64_t kShort = 8, kLong = 16;

// Numbers of the vectors here: kLong where the processor has AVX-512 and ATEN_CPU_CAPABILITY does not forbid it, else kShort.
int64_t lanes();
// Whether it has AVX2 and FMA, and ATEN_CPU_CAPABILITY does not forbid them.
bool has_256_bits();
// Whether loops of our own onto so many channels, by a weight of so many bytes, are fast here: with AVX2 and FMA or AVX-512, whole vectors, and a
// weight that a core's own cache holds beside its rows.
bool suits(int64_t channels, int64_t bytes);

template <int64_t N> struct Vector {
  typedef float Type __attribute__((vector_size(N * 4), aligned(4), may_alias));
};
// N numbers.
template <int64_t N> using Lanes = typename Vector<N>::Type;

// Pixels whose sums are in registers at a time: with two vectors each, 12 of 16 registers, or 24 of the 32 of AVX-512.
template <int64_t N> constexpr int64_t kPixels = N == kLong ? 12 : 6;

constexpr int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// f(std::integral_constant<int, count>) for a count of 1 to Most.
template <int Most, int From = 1, class F> PB_INLINE void of_count(int64_t count, F&& f) {
  if constexpr (From < Most) {
    if (count != From) return of_count<Most, From + 1>(count, f);
  }
  f(std::integral_constant<int, From>());
}

#ifdef PB_WITH_512_BITS
template <class F> PB_WITH_512_BITS void with_512_bits(F&& f) { f(std::integral_constant<int64_t, kLong>()); }
template <class F> PB_WITH_256_BITS void with_256_bits(F&& f) { f(std::integral_constant<int64_t, kShort>()); }
#endif

// f(std::integral_constant<int64_t, lanes()>), compiled for the processor's vectors if f is a PB_INLINE_LAMBDA of PB_INLINE functions.
template <class F> void by_lanes(F&& f) {
#ifdef PB_WITH_512_BITS
  if (lanes() == kLong) return with_512_bits(f);
  if (has_256_bits()) return with_256_bits(f);
#endif
  f(std::integral_constant<int64_t, kShort>());
}

}  // namespace pb
