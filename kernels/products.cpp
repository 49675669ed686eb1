// Gram matrices of rows in f32 on a CPU, in double. Converted on their way into registers, rows need no second copy in double; and of the
// symmetric half, which a general product would compute as well, nothing is computed.
#include "products.h"

#include "lanes.h"
#include "protect.h"
#include "pullback.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace {

template <int64_t N> struct Double {
  typedef double Type __attribute__((vector_size(N * 8)));
};
template <int64_t N> using Doubles = typename Double<N>::Type;

// Rows of a tile, and columns.
constexpr int kTile = 4;
// Multiplications that are worth a thread: some ten microseconds.
constexpr int64_t kWorthAThread = 1 << 18;

using Pointers = std::array<const float*, kTile>;

template <int64_t N> PB_INLINE void widen(const float* from, Doubles<N>& to) {
  to = __builtin_convertvector(*reinterpret_cast<const pb::Lanes<N>*>(from), Doubles<N>);
}

// Adds the products of N columns, from `e` on, of kTile rows and of J others.
template <int64_t N, int J> PB_INLINE void add(const Pointers& a, const float* const* b, int64_t e, Doubles<N> (&sums)[kTile][J]) {
  Doubles<N> others[J];
  for (int j = 0; j < J; ++j) widen<N>(b[j] + e, others[j]);
  for (int i = 0; i < kTile; ++i) {
    Doubles<N> own;
    widen<N>(a[i] + e, own);
    for (int j = 0; j < J; ++j) sums[i][j] += own * others[j];
  }
}

// The products of kTile rows and J others, from the column `first` on.
template <int64_t N, int J> PB_INLINE void products(const Pointers& a, const Pointers& b, int first, int64_t width, double (&to)[kTile][kTile]) {
  Doubles<N> sums[kTile][J] = {};
  int64_t e = 0;
  for (; e + N <= width; e += N) add<N, J>(a, b.data() + first, e, sums);
  if (e < width) {
    // The last columns, followed by zeros.
    float own[kTile][N] = {}, others[J][N] = {};
    Pointers from_own;
    std::array<const float*, J> from_others;
    for (int i = 0; i < kTile; ++i) from_own[i] = static_cast<const float*>(std::memcpy(own[i], a[i] + e, (width - e) * sizeof(float)));
    for (int j = 0; j < J; ++j) from_others[j] = static_cast<const float*>(std::memcpy(others[j], b[first + j] + e, (width - e) * sizeof(float)));
    add<N, J>(from_own, from_others.data(), 0, sums);
  }
  for (int i = 0; i < kTile; ++i) {
    for (int j = 0; j < J; ++j) {
      double sum = 0;
      for (int64_t n = 0; n < N; ++n) sum += sums[i][j][n];
      to[i][first + j] = sum;
    }
  }
}

}  // namespace

void gram_into(const at::Tensor& rows, double* to) {
  RECORD_FUNCTION("pullback::gram", c10::ArrayRef<const c10::IValue>{});
  TORCH_CHECK(rows.is_cpu() && rows.scalar_type() == at::kFloat && rows.dim() == 3, "a Gram matrix of rows: [B, P, D] in f32 on a CPU");
  const at::Tensor held = rows.size(2) > 1 && rows.stride(2) != 1 ? rows.contiguous() : rows;
  const int64_t batch = held.size(0), order = held.size(1), width = held.size(2), from_sample = held.stride(0), from_row = held.stride(1);
  const float* data = held.const_data_ptr<float>();
  const int64_t bands = (order + kTile - 1) / kTile, tiles = bands * (bands + 1) / 2;
  const int64_t grain = std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, kTile * kTile * width));
  at::parallel_for(0, batch * tiles, grain, [&](int64_t begin, int64_t end) {
    pb::by_lanes([&](auto lanes) PB_INLINE_LAMBDA {
      constexpr int64_t n = lanes / 2;
      // AVX2 has registers for half a tile.
      constexpr int columns = lanes == pb::kLong ? kTile : kTile / 2;
      for (int64_t t = begin; t < end; ++t) {
        int64_t below = t % tiles, band = 0;
        while (below > band) below -= ++band;
        const float* sample = data + t / tiles * from_sample;
        // Rows beyond the last stand for it, and are left out.
        const auto of_band = [&](int64_t first) {
          Pointers all;
          for (int i = 0; i < kTile; ++i) all[i] = sample + std::min(first * kTile + i, order - 1) * from_row;
          return all;
        };
        const Pointers a = of_band(band), b = of_band(below);
        double tile[kTile][kTile];
        for (int first = 0; first < kTile; first += columns) products<n, columns>(a, b, first, width, tile);
        double* matrix = to + t / tiles * order * order;
        for (int64_t i = band * kTile; i < std::min(order, (band + 1) * kTile); ++i) {
          for (int64_t j = below * kTile; j < std::min(order, (below + 1) * kTile); ++j) {
            matrix[i * order + j] = matrix[j * order + i] = tile[i % kTile][j % kTile];
          }
        }
      }
    });
  });
}

extern "C" const char* pb_gram_of_rows(void** result, const void* rows_) {
  return protect([&] {
    const auto& rows = *static_cast<const at::Tensor*>(rows_);
    TORCH_CHECK(rows.dim() == 3, "a Gram matrix of rows: [B, P, D]");
    at::Tensor gram = at::empty({rows.size(0), rows.size(1), rows.size(1)}, rows.options().dtype(at::kDouble).requires_grad(false));
    gram_into(rows, gram.mutable_data_ptr<double>());
    *result = new at::Tensor(std::move(gram));
  });
}
