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

using pb::kLanes;
using pb::kPixels;
using pb::Lanes;

// From a block of weights to the next: two vectors of channels.
constexpr int64_t kPanel = 2 * kLanes;

// Sizes of the work beside the window's own. A row has a border above and to the left, whose zeros stand for pixels outside of it, and below
// and to the right.
struct Plan : Window {
  int64_t maps, down, right, top, left, above, before, lines, line;

  Plan(int64_t o, const Window& w)
      : Window(w),
        maps(o),
        down(stride[0]),
        right(stride[1]),
        top(padding[0]),
        left(padding[1]),
        above((kh - 1) / down),
        before((kw - 1) / right),
        lines(above + std::max(out_height, (height - 1 + top) / down + 1)),
        line(before + std::max(out_width, (width - 1 + left) / right + 1)) {}
};

// Taps of a phase along one axis: every `step`-th of `taps` from `phase` on.
constexpr int64_t taps_of(int64_t taps, int64_t phase, int64_t step) { return phase < taps ? (taps - phase + step - 1) / step : 0; }
// The first place of a phase that lies in the image: the least u with u step + phase - padding >= 0.
constexpr int64_t first_of(int64_t padding, int64_t phase, int64_t step) { return std::max<int64_t>(0, (padding - phase + step - 1) / step); }

// P pixels of a phase, `step` apart, and L vectors of their channels.
template <int P, int L> PB_INLINE void sums_of(const float* from, int64_t down_taps, int64_t right_taps, const float* weights, const Plan& plan,
                                               float* to, int64_t step) {
  Lanes sums[P][L] = {};
  for (int64_t a = 0; a < down_taps; ++a) {
    for (int64_t b = 0; b < right_taps; ++b) {
      const float* maps = from - (a * plan.line + b) * plan.maps;
      for (int64_t o = 0; o < plan.maps; ++o, weights += L * kLanes) {
        Lanes taps[L];
        for (int l = 0; l < L; ++l) taps[l] = *reinterpret_cast<const Lanes*>(weights + l * kLanes);
        for (int p = 0; p < P; ++p) {
          const float value = maps[p * plan.maps + o];
          for (int l = 0; l < L; ++l) sums[p][l] += value * taps[l];
        }
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int l = 0; l < L; ++l) *reinterpret_cast<Lanes*>(to + p * step + l * kLanes) = sums[p][l];
  }
}

// One row [h, w, O], times `factor` if there is one, to an image [H, W, I]. `padded` is [lines, line, O], with zeros in its border.
PB_EACH_PROCESSOR void one_row(const float* row, const float* factor, const float* weights, const Plan& plan, float* padded, float* to) {
  const int64_t numbers = plan.out_width * plan.maps, step = plan.right * plan.channels;
  for (int64_t i = 0; i < plan.out_height; ++i) {
    float* into = padded + ((i + plan.above) * plan.line + plan.before) * plan.maps;
    const float* from = row + i * numbers;
    if (factor == nullptr) {
      std::memcpy(into, from, numbers * sizeof(float));
    } else {
      for (int64_t e = 0; e < numbers; ++e) into[e] = from[e] * factor[i * numbers + e];
    }
  }
  for (int64_t alpha = 0; alpha < plan.down; ++alpha) {
    for (int64_t beta = 0; beta < plan.right; ++beta) {
      const int64_t down_taps = taps_of(plan.kh, alpha, plan.down), right_taps = taps_of(plan.kw, beta, plan.right);
      const int64_t first = first_of(plan.left, beta, plan.right);
      const int64_t count = plan.width - 1 + plan.left < beta ? 0 : (plan.width - 1 + plan.left - beta) / plan.right + 1 - first;
      // Blocks of equal size: a last one of few pixels would wait for its own sums.
      const int64_t blocks = (count + kPixels - 1) / kPixels, pixels = count > 0 ? (count + blocks - 1) / blocks : 1;
      for (int64_t c = 0; c < plan.channels; c += kPanel) {
        const bool whole = plan.channels - c >= kPanel;
        for (int64_t u = first_of(plan.top, alpha, plan.down); u * plan.down + alpha - plan.top < plan.height; ++u) {
          const int64_t y = u * plan.down + alpha - plan.top;
          for (int64_t done = 0; done < count; done += pixels) {
            const int64_t v = first + done;
            const float* from = padded + ((u + plan.above) * plan.line + v + plan.before) * plan.maps;
            float* into = to + (y * plan.width + v * plan.right + beta - plan.left) * plan.channels + c;
            pb::of_pixels(std::min(pixels, count - done), [&](auto number) PB_INLINE_LAMBDA {
              if (whole) {
                sums_of<number, 2>(from, down_taps, right_taps, weights, plan, into, step);
              } else {
                sums_of<number, 1>(from, down_taps, right_taps, weights, plan, into, step);
              }
            });
          }
        }
        weights += down_taps * right_taps * plan.maps * std::min(kPanel, plan.channels - c);
      }
    }
  }
}

}  // namespace

bool has_onto_maps() {
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
  // With 512 bits oneDNN's vectors are twice as long as these; without FMA neither has been measured.
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !__builtin_cpu_supports("avx512f");
  return has;
#else
  return false;
#endif
}

at::Tensor in_phases(const at::Tensor& weight, at::IntArrayRef stride) {
  std::vector<at::Tensor> blocks;
  for (int64_t alpha = 0; alpha < stride[0]; ++alpha) {
    for (int64_t beta = 0; beta < stride[1]; ++beta) {
      // [a, b, O, I] of the phase.
      const at::Tensor taps = weight.slice(2, alpha, INT64_MAX, stride[0]).slice(3, beta, INT64_MAX, stride[1]).permute({2, 3, 0, 1});
      for (const at::Tensor& panel : taps.split(kPanel, 3)) blocks.push_back(panel.reshape({-1}));
    }
  }
  return at::cat(blocks);
}

at::Tensor onto_maps(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& phases, const Window& window) {
  const Plan plan(rows.size(1), window);
  TORCH_CHECK(rows.scalar_type() == at::kFloat && plan.channels % kLanes == 0 && phases.numel() == plan.kh * plan.kw * plan.maps * plan.channels &&
                  rows.size(2) == plan.out_height && rows.size(3) == plan.out_width,
              "onto_maps: rows and weight do not belong together");
  const at::Tensor from = rows.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor by = factor.defined() ? factor.contiguous(at::MemoryFormat::ChannelsLast) : at::Tensor();
  const int64_t samples = factor.defined() ? by.size(0) : 1, size = plan.out_height * plan.out_width * plan.maps;
  const int64_t image = plan.channels * plan.height * plan.width;
  at::Tensor result = at::empty({rows.size(0), plan.channels, plan.height, plan.width}, rows.options().memory_format(at::MemoryFormat::ChannelsLast));
  const float* data = from.const_data_ptr<float>();
  const float* factors = by.defined() ? by.const_data_ptr<float>() : nullptr;
  const float* weights = phases.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, rows.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> padded(plan.lines * plan.line * plan.maps);
    for (int64_t r = begin; r < end; ++r) {
      one_row(data + r * size, factors == nullptr ? nullptr : factors + r % samples * size, weights, plan, padded.data(), to + r * image);
    }
  });
  return result;
}
