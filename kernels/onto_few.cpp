// One row of maps at a time: the products of its pixels with all taps stay in the first-level cache, and are added there to the image.
#include "lanes.h"
#include "onto.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using pb::kPixels;
using pb::Lanes;
using pb::rounded_up;

// Taps of a line that are added to an image at a time.
constexpr int64_t kPiece = 4;

typedef float Piece __attribute__((vector_size(kPiece * 4), aligned(4), may_alias));

// Older compilers have no such function.
#if __has_builtin(__builtin_shufflevector)
#define PB_JOINS_PIECES 1
#else
#define PB_JOINS_PIECES 0
#endif

// Adds four pieces, `step` apart, to neighbours.
PB_INLINE void add_four([[maybe_unused]] const float* from, [[maybe_unused]] int64_t step, [[maybe_unused]] float* into) {
#if PB_JOINS_PIECES
  const auto piece = [&](int64_t i) PB_INLINE_LAMBDA { return *reinterpret_cast<const Piece*>(from + i * step); };
  const auto low = __builtin_shufflevector(piece(0), piece(1), 0, 1, 2, 3, 4, 5, 6, 7);
  const auto high = __builtin_shufflevector(piece(2), piece(3), 0, 1, 2, 3, 4, 5, 6, 7);
  *reinterpret_cast<Lanes<16>*>(into) += __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

// Sizes of the work beside the window's own: taps of a line and all taps, with zeros to the next multiple, and an image with its border.
struct Plan : Window {
  int64_t maps, down, right, top, left, line_taps, taps, lines, line;

  Plan(int64_t o, const Window& w)
      : Window(w),
        maps(o),
        down(stride[0]),
        right(stride[1]),
        top(padding[0]),
        left(padding[1]),
        line_taps(rounded_up(kw, kPiece)),
        taps(rounded_up(channels * kh * line_taps, pb::lanes())),
        lines(std::max(height + 2 * top, (out_height - 1) * down + kh)),
        line(std::max(width + 2 * left, (out_width - 1) * right + line_taps)) {}

  int64_t image() const { return channels * height * width; }
  int64_t pixels() const { return out_height * out_width; }
};

// Sums over the maps for P pixels and L vectors of taps: [P, taps] from [P, maps] and a panel [maps, L vectors].
template <int64_t N, int P, int L> PB_INLINE void products(const float* maps, const float* panel, const Plan& plan, float* to) {
  Lanes<N> sums[P][L] = {};
  for (int64_t o = 0; o < plan.maps; ++o) {
    Lanes<N> taps[L];
    for (int l = 0; l < L; ++l) taps[l] = *reinterpret_cast<const Lanes<N>*>(panel + (o * L + l) * N);
    for (int p = 0; p < P; ++p) {
      const float value = maps[p * plan.maps + o];
      for (int l = 0; l < L; ++l) sums[p][l] += value * taps[l];
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int l = 0; l < L; ++l) *reinterpret_cast<Lanes<N>*>(to + p * plan.taps + l * N) = sums[p][l];
  }
}

// The most pixels at a time: as many more if their products fit one vector each.
template <int64_t N> constexpr int kMost = kPixels<N> * 4 / 3;

template <int64_t N, int P> PB_INLINE void all_products(const float* maps, const float* panels, const Plan& plan, float* to) {
  int64_t t = 0;
  for (; t + 2 * N <= plan.taps; t += 2 * N) products<N, P, 2>(maps, panels + t * plan.maps, plan, to + t);
  if (t < plan.taps) products<N, P, 1>(maps, panels + t * plan.maps, plan, to + t);
}

// What a thread writes on its way.
struct Scratch {
  std::vector<float> factored, products, image;
  explicit Scratch(const Plan& p) : factored(kMost<pb::kLong> * p.maps), products(p.out_width * p.taps), image(p.channels * p.lines * p.line) {}
};

// One row [h, w, O], times `factor` if there is one, to an image [I, H, W].
template <int64_t N> PB_INLINE void one_image(const float* row, const float* factor, bool masks, const float* panels, const Plan& plan, Scratch& own,
                                                float* to) {
  float *factored = own.factored.data(), *columns = own.products.data(), *image = own.image.data();
  // Lines of neighbouring pixels overlap. Those of one turn do not, so that no sum waits for the one before it to be stored.
  const int64_t turns = rounded_up(plan.line_taps, plan.right) / plan.right;
  // Blocks of equal size: a last one of few pixels would wait for its own sums.
  const int64_t most = plan.taps == N ? kMost<N> : kPixels<N>, blocks = (plan.out_width + most - 1) / most;
  const int64_t pixels = (plan.out_width + blocks - 1) / blocks;
  std::memset(image, 0, plan.channels * plan.lines * plan.line * sizeof(float));
  for (int64_t i = 0; i < plan.out_height; ++i) {
    for (int64_t j = 0; j < plan.out_width; j += pixels) {
      const int64_t count = std::min(pixels, plan.out_width - j), at = (i * plan.out_width + j) * plan.maps;
      const float* maps = row + at;
      if (factor != nullptr && masks) {
        for (int64_t e = 0; e < count * plan.maps; ++e) factored[e] = factor[at + e] > 0 ? maps[e] : 0.0f;
      } else if (factor != nullptr) {
        for (int64_t e = 0; e < count * plan.maps; ++e) factored[e] = maps[e] * factor[at + e];
      }
      if (factor != nullptr) maps = factored;
      float* into = columns + j * plan.taps;
      pb::of_count<kMost<N>>(count, [&](auto number) PB_INLINE_LAMBDA { all_products<N, number>(maps, panels, plan, into); });
    }
    // Where the pieces of a turn are neighbours, four of them are added at once.
    const bool dense = PB_JOINS_PIECES && turns * plan.right == kPiece && plan.line_taps == kPiece;
    for (int64_t turn = 0; turn < turns; ++turn) {
      for (int64_t c = 0; c < plan.channels; ++c) {
        for (int64_t a = 0; a < plan.kh; ++a) {
          float* into = image + (c * plan.lines + i * plan.down + a) * plan.line;
          const float* from = columns + (c * plan.kh + a) * plan.line_taps;
          int64_t j = turn;
          for (; dense && j + 3 * turns < plan.out_width; j += 4 * turns) {
            add_four(from + j * plan.taps, turns * plan.taps, into + j * plan.right);
          }
          for (; j < plan.out_width; j += turns) {
            for (int64_t b = 0; b < plan.line_taps; b += kPiece) {
              *reinterpret_cast<Piece*>(into + j * plan.right + b) += *reinterpret_cast<const Piece*>(from + j * plan.taps + b);
            }
          }
        }
      }
    }
  }
  for (int64_t c = 0; c < plan.channels; ++c) {
    for (int64_t y = 0; y < plan.height; ++y) {
      const float* from = image + (c * plan.lines + y + plan.top) * plan.line + plan.left;
      std::memcpy(to + (c * plan.height + y) * plan.width, from, plan.width * sizeof(float));
    }
  }
}

}  // namespace

at::Tensor in_panels(const at::Tensor& weight) {
  const int64_t kw = weight.size(3), maps = weight.size(0);
  const at::Tensor lines = at::constant_pad_nd(weight, {0, rounded_up(kw, kPiece) - kw}).flatten(1);
  const at::Tensor taps = at::constant_pad_nd(lines, {0, rounded_up(lines.size(1), pb::lanes()) - lines.size(1)});
  std::vector<at::Tensor> panels;
  for (int64_t t = 0; t < taps.size(1); t += 2 * pb::lanes()) {
    panels.push_back(taps.narrow(1, t, std::min(2 * pb::lanes(), taps.size(1) - t)).reshape({-1}));
  }
  return at::cat(panels).view({taps.size(1), maps});
}

at::Tensor onto_few(const Source& source, const at::Tensor& panels, const Window& window) {
  const at::Tensor& rows = source.rows;
  const Plan plan(rows.size(1), window);
  TORCH_CHECK(rows.scalar_type() == at::kFloat && panels.numel() == plan.taps * plan.maps && rows.size(2) == plan.out_height &&
                  rows.size(3) == plan.out_width,
              "onto_few: rows and weight do not belong together");
  const at::Tensor from = rows.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor factor = source.factor.defined() ? source.factor.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const int64_t samples = source.samples(), each = source.shared ? samples : 1, count = source.count(), size = plan.pixels() * plan.maps;
  at::Tensor result = at::empty({count, plan.channels, plan.height, plan.width}, rows.options().memory_format(at::MemoryFormat::Contiguous));
  const float* data = from.const_data_ptr<float>();
  const float* factors = factor.defined() ? factor.const_data_ptr<float>() : nullptr;
  const float* weights = panels.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    Scratch own(plan);
    pb::by_lanes([&](auto lanes) PB_INLINE_LAMBDA {
      for (int64_t r = begin; r < end; ++r) {
        const float* by = factors == nullptr ? nullptr : factors + r % samples * size;
        one_image<lanes>(data + r / each * size, by, source.masks, weights, plan, own, to + r * plan.image());
      }
    });
  });
  return result;
}
