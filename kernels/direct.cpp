// A convolution line by line: the sums of several pixels stay in registers, and nothing is unrolled or laid out but a border.
#include "direct.h"

#include "grain.h"
#include "lanes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using pb::kPixels;
using pb::Lanes;

// Sizes of the work beside the convolution's own: an image with its border, and floats from a pixel's window to the next.
struct Plan : Sizes {
  int64_t channels, maps, down, right, top, left, lines, line, step;

  Plan(int64_t i, int64_t o, at::IntArrayRef stride, at::IntArrayRef padding, const Sizes& s)
      : Sizes(s),
        channels(i),
        maps(o),
        down(stride[0]),
        right(stride[1]),
        top(padding[0]),
        left(padding[1]),
        lines(height + 2 * top),
        line((width + 2 * left) * channels),
        step(right * channels) {}
};

// P pixels and L vectors of N of their maps, from `bias` on.
template <int64_t N, int P, int L> PB_INLINE void sums_of(const float* window, const float* weights, const float* bias, const Plan& plan, float* to) {
  Lanes<N> sums[P][L] = {};
  if (bias != nullptr) {
    for (int p = 0; p < P; ++p) {
      for (int l = 0; l < L; ++l) sums[p][l] = *reinterpret_cast<const Lanes<N>*>(bias + l * N);
    }
  }
  // A line of the window is contiguous.
  const int64_t numbers = plan.kw * plan.channels;
  for (int64_t a = 0; a < plan.kh; ++a, window += plan.line) {
    for (int64_t e = 0; e < numbers; ++e, weights += plan.maps) {
      Lanes<N> taps[L];
      for (int l = 0; l < L; ++l) taps[l] = *reinterpret_cast<const Lanes<N>*>(weights + l * N);
      for (int p = 0; p < P; ++p) {
        const float value = window[p * plan.step + e];
        for (int l = 0; l < L; ++l) sums[p][l] += value * taps[l];
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int l = 0; l < L; ++l) *reinterpret_cast<Lanes<N>*>(to + p * plan.maps + l * N) = sums[p][l];
  }
}

// A line of all maps, [w, O], from the lines of a padded image that its windows see.
template <int64_t N> PB_INLINE void one_line(const float* windows, const float* weights, const float* bias, const Plan& plan, float* to) {
  // Blocks of equal size: a last one of few pixels would wait for its own sums.
  const int64_t blocks = (plan.out_width + kPixels<N> - 1) / kPixels<N>, pixels = (plan.out_width + blocks - 1) / blocks;
  for (int64_t o = 0; o < plan.maps; o += 2 * N) {
    const float* from = bias == nullptr ? nullptr : bias + o;
    for (int64_t j = 0; j < plan.out_width; j += pixels) {
      pb::of_count<kPixels<N>>(std::min(pixels, plan.out_width - j), [&](auto p) PB_INLINE_LAMBDA {
        if (plan.maps - o >= 2 * N) {
          sums_of<N, p, 2>(windows + j * plan.step, weights + o, from, plan, to + j * plan.maps + o);
        } else {
          sums_of<N, p, 1>(windows + j * plan.step, weights + o, from, plan, to + j * plan.maps + o);
        }
      });
    }
  }
}

// An image, channels last or planes, into the middle of `padded`.
void place(const float* image, bool last, const Plan& plan, float* padded) {
  const int64_t numbers = plan.width * plan.channels;
  for (int64_t y = 0; y < plan.height; ++y) {
    float* into = padded + (y + plan.top) * plan.line + plan.left * plan.channels;
    if (last) {
      std::memcpy(into, image + y * numbers, numbers * sizeof(float));
      continue;
    }
    for (int64_t c = 0; c < plan.channels; ++c) {
      const float* from = image + (c * plan.height + y) * plan.width;
      for (int64_t x = 0; x < plan.width; ++x) into[x * plan.channels + c] = from[x];
    }
  }
}

}  // namespace

at::Tensor convolved_directly(const at::Tensor& x, const at::Tensor& columns, const at::Tensor& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                              const Sizes& s) {
  const bool last = !x.is_contiguous() || x.is_contiguous(at::MemoryFormat::ChannelsLast);
  const Plan plan(x.size(1), columns.size(1), stride, padding, s);
  TORCH_CHECK(x.scalar_type() == at::kFloat && plan.maps % pb::lanes() == 0 && columns.size(0) == plan.kh * plan.kw * plan.channels,
              "a direct convolution: images and weight do not belong together");
  const at::Tensor images = x.contiguous(last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  const at::Tensor shift = bias.defined() ? bias.contiguous() : bias;
  at::Tensor result = at::empty({x.size(0), plan.maps, plan.out_height, plan.out_width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const float *data = images.const_data_ptr<float>(), *weights = columns.const_data_ptr<float>();
  const float* added = bias.defined() ? shift.const_data_ptr<float>() : nullptr;
  float* to = result.mutable_data_ptr<float>();
  const int64_t numbers = plan.out_width * plan.maps;
  at::parallel_for(0, x.size(0) * plan.out_height, pb::rows_worth_a_thread(numbers * columns.size(0)), [&](int64_t begin, int64_t end) {
    std::vector<float> padded(plan.lines * plan.line);
    int64_t placed = -1;
    pb::by_lanes([&](auto lanes) PB_INLINE_LAMBDA {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t image = r / plan.out_height, i = r % plan.out_height;
        if (image != placed) {
          place(data + image * plan.height * plan.width * plan.channels, last, plan, padded.data());
          placed = image;
        }
        one_line<lanes>(padded.data() + i * plan.down * plan.line, weights, added, plan, to + r * numbers);
      }
    });
  });
  return result;
}
