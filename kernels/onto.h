// Rows back through a convolution of images, where loops of our own are faster than oneDNN: onto few channels, as images have, and through
// the strided convolutions between small maps, whose weights stay in the cache.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

// A convolution of images [H, W] of `channels` onto maps [h, w].
struct Window {
  int64_t channels, height, width, out_height, out_width, kh, kw;
  std::vector<int64_t> stride, padding;
};

// Rows [m, O, h, w] in f32 on a CPU. Where `factor` [b, O, h, w] is defined, row r is first multiplied by its sample r % b; or, if it `masks`,
// becomes 0 where that is not positive. Where all samples share their rows, each stands for b of them.
struct Source {
  at::Tensor rows, factor = {};
  bool shared = false, masks = false;

  int64_t samples() const { return factor.defined() ? factor.size(0) : 1; }
  int64_t count() const { return rows.size(0) * (shared ? samples() : 1); }
};

// A weight [O, I, kh, kw] in the layout of `onto_few`, and in that of `onto_maps`.
at::Tensor in_panels(const at::Tensor& weight);
at::Tensor in_phases(const at::Tensor& weight, at::IntArrayRef stride);

// All rows of a source to images [count, I, H, W].
at::Tensor onto_few(const Source& source, const at::Tensor& panels, const Window& window);
// The same, to channels last; for what pb::suits allows.
at::Tensor onto_maps(const Source& source, const at::Tensor& phases, const Window& window);
