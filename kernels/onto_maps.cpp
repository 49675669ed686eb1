// Rows back through a strided convolution onto maps. A pixel of an image receives from every `stride`-th tap only: pixels of one remainder
// (a phase) are a convolution of stride 1 with those taps, whose sums stay in registers.
#include "lanes.h"
#include "onto.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

using pb::kPixels;
using pb::Lanes;

// From a block of weights to the next: two vectors of channels.
int64_t panel_channels() { return 2 * pb::lanes(); }

// Sizes of the work beside the window's own. A row has a border above and to the left, whose zeros stand for pixels outside of it, and below
// and to the right.
struct Plan : Window {
  int64_t maps, down, right, top, left, above, before, lines, line;
  // Whether rows are channels last.
  bool last;

  Plan(int64_t o, bool is_last, const Window& w)
      : Window(w),
        maps(o),
        down(stride[0]),
        right(stride[1]),
        top(padding[0]),
        left(padding[1]),
        above((kh - 1) / down),
        before((kw - 1) / right),
        lines(above + std::max(out_height, (height - 1 + top) / down + 1)),
        line(before + std::max(out_width, (width - 1 + left) / right + 1)),
        last(is_last) {}
};

// Taps of a phase along one axis: every `step`-th of `taps` from `phase` on.
constexpr int64_t taps_of(int64_t taps, int64_t phase, int64_t step) { return phase < taps ? (taps - phase + step - 1) / step : 0; }
// The first place of a phase that lies in the image: the least u with u step + phase - padding >= 0.
constexpr int64_t first_of(int64_t padding, int64_t phase, int64_t step) { return std::max<int64_t>(0, (padding - phase + step - 1) / step); }

// Q lines of P pixels of a phase, `step` and `down` apart in the image, and L vectors of N of their channels.
template <int64_t N, int Q, int P, int L> PB_INLINE void sums_of(const float* from, int64_t down_taps, int64_t right_taps, const float* weights,
                                                                const Plan& plan, float* to, int64_t step, int64_t down) {
  Lanes<N> sums[Q][P][L] = {};
  for (int64_t a = 0; a < down_taps; ++a) {
    for (int64_t b = 0; b < right_taps; ++b) {
      const float* maps = from - (a * plan.line + b) * plan.maps;
      for (int64_t o = 0; o < plan.maps; ++o, weights += L * N) {
        Lanes<N> taps[L];
        for (int l = 0; l < L; ++l) taps[l] = *reinterpret_cast<const Lanes<N>*>(weights + l * N);
        for (int q = 0; q < Q; ++q) {
          for (int p = 0; p < P; ++p) {
            const float value = maps[(q * plan.line + p) * plan.maps + o];
            for (int l = 0; l < L; ++l) sums[q][p][l] += value * taps[l];
          }
        }
      }
    }
  }
  for (int q = 0; q < Q; ++q) {
    for (int p = 0; p < P; ++p) {
      for (int l = 0; l < L; ++l) *reinterpret_cast<Lanes<N>*>(to + q * down + p * step + l * N) = sums[q][p][l];
    }
  }
}

// N maps of a pixel, which lie `pixels` apart, to N neighbours.
template <int64_t N> PB_INLINE void gather(const float* from, int64_t pixels, float* to) {
  Lanes<N> maps;
  for (int64_t o = 0; o < N; ++o) maps[o] = from[o * pixels];
  *reinterpret_cast<Lanes<N>*>(to) = maps;
}

// One row, times `factor` [h, w, O] or its sign if there is one, into `padded` [lines, line, O].
template <int64_t N> PB_INLINE void place(const float* row, const float* factor, bool masks, const Plan& plan, float* padded) {
  const int64_t pixels = plan.out_height * plan.out_width, numbers = plan.out_width * plan.maps;
  for (int64_t i = 0; i < plan.out_height; ++i) {
    float* into = padded + ((i + plan.above) * plan.line + plan.before) * plan.maps;
    const float* from = row + i * numbers;
    if (!plan.last) {
      for (int64_t j = 0; j < plan.out_width; ++j) {
        const float* pixel = row + i * plan.out_width + j;
        int64_t o = 0;
        for (; o + N <= plan.maps; o += N) gather<N>(pixel + o * pixels, pixels, into + j * plan.maps + o);
        for (; o < plan.maps; ++o) into[j * plan.maps + o] = pixel[o * pixels];
      }
      from = into;
    }
    if (factor != nullptr && masks) {
      for (int64_t e = 0; e < numbers; ++e) into[e] = factor[i * numbers + e] > 0 ? from[e] : 0.0f;
    } else if (factor != nullptr) {
      for (int64_t e = 0; e < numbers; ++e) into[e] = from[e] * factor[i * numbers + e];
    } else if (plan.last) {
      std::memcpy(into, from, numbers * sizeof(float));
    }
  }
}

// One row, times `factor` if there is one, to an image [H, W, I]. `padded` has zeros in its border.
template <int64_t N>
PB_INLINE void one_row(const float* row, const float* factor, bool masks, const float* weights, const Plan& plan, float* padded, float* to) {
  const int64_t step = plan.right * plan.channels, down = plan.down * plan.width * plan.channels;
  place<N>(row, factor, masks, plan, padded);
  for (int64_t alpha = 0; alpha < plan.down; ++alpha) {
    for (int64_t beta = 0; beta < plan.right; ++beta) {
      const int64_t down_taps = taps_of(plan.kh, alpha, plan.down), right_taps = taps_of(plan.kw, beta, plan.right);
      const int64_t first = first_of(plan.left, beta, plan.right);
      const int64_t count = plan.width - 1 + plan.left < beta ? 0 : (plan.width - 1 + plan.left - beta) / plan.right + 1 - first;
      // Blocks of equal size: a last one of few pixels would wait for its own sums. Where there is room, they are of two lines.
      const int64_t blocks = (count + kPixels<N> - 1) / kPixels<N>, pixels = count > 0 ? (count + blocks - 1) / blocks : 1;
      const int64_t end = plan.height - 1 + plan.top < alpha ? 0 : (plan.height - 1 + plan.top - alpha) / plan.down + 1;
      for (int64_t c = 0; c < plan.channels; c += 2 * N) {
        const bool whole = plan.channels - c >= 2 * N;
        for (int64_t u = first_of(plan.top, alpha, plan.down), lines = 1; u < end; u += lines) {
          lines = 2 * pixels <= kPixels<N> && u + 2 <= end ? 2 : 1;
          const int64_t y = u * plan.down + alpha - plan.top;
          for (int64_t done = 0; done < count; done += pixels) {
            const int64_t v = first + done;
            const float* from = padded + ((u + plan.above) * plan.line + v + plan.before) * plan.maps;
            float* into = to + (y * plan.width + v * plan.right + beta - plan.left) * plan.channels + c;
            const auto sums = [&](auto q, auto p) PB_INLINE_LAMBDA {
              if (whole) {
                sums_of<N, q, p, 2>(from, down_taps, right_taps, weights, plan, into, step, down);
              } else {
                sums_of<N, q, p, 1>(from, down_taps, right_taps, weights, plan, into, step, down);
              }
            };
            const int64_t number = std::min(pixels, count - done);
            if (lines == 2) {
              pb::of_count<kPixels<N> / 2>(number, [&](auto p) PB_INLINE_LAMBDA { sums(std::integral_constant<int, 2>(), p); });
            } else {
              pb::of_count<kPixels<N>>(number, [&](auto p) PB_INLINE_LAMBDA { sums(std::integral_constant<int, 1>(), p); });
            }
          }
        }
        weights += down_taps * right_taps * plan.maps * std::min(2 * N, plan.channels - c);
      }
    }
  }
}

}  // namespace

at::Tensor in_phases(const at::Tensor& weight, at::IntArrayRef stride) {
  std::vector<at::Tensor> blocks;
  for (int64_t alpha = 0; alpha < stride[0]; ++alpha) {
    for (int64_t beta = 0; beta < stride[1]; ++beta) {
      // [a, b, O, I] of the phase.
      const at::Tensor taps = weight.slice(2, alpha, INT64_MAX, stride[0]).slice(3, beta, INT64_MAX, stride[1]).permute({2, 3, 0, 1});
      for (const at::Tensor& panel : taps.split(panel_channels(), 3)) blocks.push_back(panel.reshape({-1}));
    }
  }
  return at::cat(blocks);
}

at::Tensor onto_maps(const Source& source, const at::Tensor& phases, const Window& window) {
  const at::Tensor& rows = source.rows;
  // Turned here once for all samples, or else each on its way.
  const bool last = source.shared || !rows.is_contiguous() || rows.is_contiguous(at::MemoryFormat::ChannelsLast);
  const Plan plan(rows.size(1), last, window);
  TORCH_CHECK(rows.scalar_type() == at::kFloat && plan.channels % pb::lanes() == 0 && phases.numel() == plan.kh * plan.kw * plan.maps * plan.channels &&
                  rows.size(2) == plan.out_height && rows.size(3) == plan.out_width,
              "onto_maps: rows and weight do not belong together");
  const at::Tensor from = rows.contiguous(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  const at::Tensor factor = source.factor.defined() ? source.factor.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const int64_t samples = source.samples(), each = source.shared ? samples : 1, count = source.count();
  const int64_t size = plan.out_height * plan.out_width * plan.maps, image = plan.channels * plan.height * plan.width;
  at::Tensor result = at::empty({count, plan.channels, plan.height, plan.width}, rows.options().memory_format(at::MemoryFormat::ChannelsLast));
  const float* data = from.const_data_ptr<float>();
  const float* factors = factor.defined() ? factor.const_data_ptr<float>() : nullptr;
  const float* weights = phases.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> padded(plan.lines * plan.line * plan.maps);
    pb::by_lanes([&](auto lanes) PB_INLINE_LAMBDA {
      for (int64_t r = begin; r < end; ++r) {
        const float* by = factors == nullptr ? nullptr : factors + r % samples * size;
        one_row<lanes>(data + r / each * size, by, source.masks, weights, plan, padded.data(), to + r * image);
      }
    });
  });
  return result;
}
