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

// A weight [O, I, kh, kw] in the layout of `onto_few`, and in that of `onto_maps`.
at::Tensor in_panels(const at::Tensor& weight);
at::Tensor in_phases(const at::Tensor& weight, at::IntArrayRef stride);

// Rows [m, O, h, w] in f32 on a CPU to [m, I, H, W]. Where `factor` [b, O, h, w] is defined, row r is first multiplied by its sample r % b.
at::Tensor onto_few(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& panels, const Window& window);
// The same for a multiple of 8 channels, and channels last; on the processors that `has_onto_maps` names.
at::Tensor onto_maps(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& phases, const Window& window);
bool has_onto_maps();
