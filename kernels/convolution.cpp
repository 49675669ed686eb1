// Convolutions of images on a CPU by the fastest way for their sizes: a loop of our own, products of unrolled images where oneDNN is slow
// (few channels, maps of a few pixels), or oneDNN's own, channels last. A ReLU behind it is done in the same operation. Autograd records the
// same as always.
#include "direct.h"
#include "lanes.h"
#include "plain.h"
#include "protect.h"
#include "pullback.h"
#include "record.h"
#include "weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

namespace {

using at::Tensor;

// Up to this many channels oneDNN's convolution is slower than a product.
constexpr int64_t kFewChannels = 4;
// The same below this many pixels in an output map.
constexpr int64_t kFewPixels = 16;
// Up to so many products of two numbers a loop of our own is faster than oneDNN also by steps of one pixel.
constexpr int64_t kFewProducts = 128 << 20;
// Bytes of unrolled images at a time.
constexpr int64_t kUnrolledBytes = 4 << 20;

// A product of images [B, I, H, W], unrolled channels last, with the weight.
Tensor by_product(const Tensor& x, const Tensor& w, const Tensor& bias, at::IntArrayRef stride, at::IntArrayRef padding, const Sizes& s) {
  const int64_t batch = x.size(0), channels = x.size(1), out = w.size(0);
  const Tensor map = laid_out(w, {Laid::Columns});
  Tensor padded = at::zeros({batch, s.height + 2 * padding[0], s.width + 2 * padding[1], channels}, x.options());
  padded.narrow(1, padding[0], s.height).narrow(2, padding[1], s.width).copy_(x.permute({0, 2, 3, 1}));
  Tensor result = at::empty({batch, s.out_height, s.out_width, out}, x.options());
  const int64_t pixels = s.out_height * s.out_width, row = s.kh * s.kw * channels;
  const int64_t most = std::max<int64_t>(1, kUnrolledBytes / (pixels * row * static_cast<int64_t>(x.element_size())));
  for (int64_t first = 0; first < batch; first += most) {
    const int64_t count = std::min(most, batch - first);
    // Patches overlap; this makes a view of each, in which a row of a patch is contiguous.
    const Tensor part = padded.narrow(0, first, count);
    const Tensor patches = part.as_strided({count, s.out_height, s.out_width, s.kh, s.kw * channels},
                                           {part.stride(0), stride[0] * part.stride(1), stride[1] * part.stride(2), part.stride(1), 1});
    const Tensor unrolled = patches.reshape({count * pixels, row});
    Tensor place = result.narrow(0, first, count).view({count * pixels, out});
    if (bias.defined()) {
      at::addmm_out(place, bias, unrolled, map);
    } else {
      at::mm_out(place, unrolled, map);
    }
  }
  return result.permute({0, 3, 1, 2});
}

// One output pixel, whose window contains the whole image: one product with the taps that lie on the image.
Tensor by_taps(const Tensor& x, const Tensor& w, const Tensor& bias, at::IntArrayRef padding, const Sizes& s) {
  const Tensor map = laid_out(w, {Laid::Columns, padding[0], s.height, padding[1], s.width});
  const Tensor rows = x.permute({0, 2, 3, 1}).reshape({x.size(0), s.height * s.width * x.size(1)});
  const Tensor maps = bias.defined() ? at::addmm(bias, rows, map) : at::mm(rows, map);
  return maps.view({x.size(0), w.size(0), 1, 1});
}

Tensor convolved(const Tensor& x, const Tensor& w, const std::optional<Tensor>& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, int64_t groups, bool rectifies) {
  const Tensor b = bias.value_or(Tensor());
  const auto theirs = [&] {
    const Tensor maps = at::conv2d(x, w, b, stride, padding, dilation, groups);
    return rectifies ? at::relu(maps) : maps;
  };
  const bool ours = x.dim() == 4 && w.dim() == 4 && stride.size() == 2 && padding.size() == 2 && dilation.size() == 2 && groups == 1 &&
                    is_plain(x) && is_plain(w) && !w.requires_grad() && (!b.defined() || (is_plain(b) && !b.requires_grad())) &&
                    x.size(1) == w.size(1) && x.numel() > 0;
  if (!ours) return theirs();
  Sizes s{w.size(2), w.size(3), x.size(2), x.size(3), 0, 0};
  // Whatever libtorch refuses is refused in its own words: a stride of 0, or a kernel larger than the padded image.
  const auto fits = [&](int64_t side, int64_t k, int d) {
    return stride[d] >= 1 && dilation[d] >= 1 && padding[d] >= 0 && k >= 1 && side + 2 * padding[d] >= dilation[d] * (k - 1) + 1;
  };
  if (!fits(s.height, s.kh, 0) || !fits(s.width, s.kw, 1)) return theirs();
  s.out_height = (s.height + 2 * padding[0] - dilation[0] * (s.kh - 1) - 1) / stride[0] + 1;
  s.out_width = (s.width + 2 * padding[1] - dilation[1] * (s.kw - 1) - 1) / stride[1] + 1;
  const bool close = dilation[0] == 1 && dilation[1] == 1;
  Tensor result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    const int64_t pixels = s.out_height * s.out_width;
    if (close && pixels == 1 && s.height + padding[0] <= s.kh && s.width + padding[1] <= s.kw) {
      result = by_taps(x, w, b, padding, s);
    } else if (close && pixels >= kFewPixels && pb::suits(w.size(0), static_cast<int64_t>(w.nbytes())) &&
               (stride[0] > 1 || stride[1] > 1 || x.size(1) <= kFewChannels || x.size(0) * pixels * w.numel() <= kFewProducts)) {
      result = convolved_directly(x, laid_out(w, {Laid::Columns}), b, stride, padding, s);
    } else if (close && (x.size(1) <= kFewChannels || pixels < kFewPixels)) {
      result = by_product(x, w, b, stride, padding, s);
    } else {
      result = at::conv2d(x.contiguous(at::MemoryFormat::ChannelsLast), laid_out(w, {Laid::ChannelsLast}), b, stride, padding, dilation, groups);
    }
    if (rectifies) rectify(result);
  }
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    using torch::autograd::generated::ConvolutionBackward0;
    std::shared_ptr<ConvolutionBackward0> node(new ConvolutionBackward0(), torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(x, w, b));
    const auto ints = [](at::IntArrayRef from) { return std::vector<c10::SymInt>(from.begin(), from.end()); };
    if (b.defined()) node->bias_sym_sizes_opt.list = b.sym_sizes().vec();
    node->stride = ints(stride), node->padding = ints(padding), node->dilation = ints(dilation);
    node->output_padding = ints({0, 0});
    node->transposed = false;
    node->groups = groups;
    node->input_ = torch::autograd::SavedVariable(x, false);
    node->weight_ = torch::autograd::SavedVariable(w, false);
    record(result, std::move(node), rectifies);
  }
  return result;
}

TORCH_LIBRARY(pullback, m) {
  using Bias = std::optional<Tensor>;
  using Ints = at::IntArrayRef;
  m.def("conv2d(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] dilation, int groups) -> Tensor",
        [](const Tensor& x, const Tensor& w, const Bias& bias, Ints stride, Ints padding, Ints dilation, int64_t groups) {
          return convolved(x, w, bias, stride, padding, dilation, groups, false);
        });
  m.def("conv2d_relu(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] dilation, int groups) -> Tensor",
        [](const Tensor& x, const Tensor& w, const Bias& bias, Ints stride, Ints padding, Ints dilation, int64_t groups) {
          return convolved(x, w, bias, stride, padding, dilation, groups, true);
        });
}

}  // namespace

extern "C" {

const char* pb_conv2d(void** result, const void* x, const void* weight, const void* bias, int64_t stride, int64_t padding,
                      int rectifies) {
  return protect([&] {
    const auto tensor = [](const void* p) { return *static_cast<const Tensor*>(p); };
    *result = new Tensor(convolved(tensor(x), tensor(weight), tensor(bias), {stride, stride}, {padding, padding}, {1, 1}, 1, rectifies != 0));
  });
}
}
