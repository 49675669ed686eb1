// Convolutions as a loop of our own: of images with any number of channels, onto a multiple of the processor's vectors.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

// The sizes of a convolution: of the kernel, the images and the maps.
struct Sizes {
  int64_t kh, kw, height, width, out_height, out_width;
};

// Images [B, I, H, W] in f32 on a CPU to maps [B, O, h, w], channels last; `columns` is the weight as Laid::Columns.
at::Tensor convolved_directly(const at::Tensor& x, const at::Tensor& columns, const at::Tensor& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                              const Sizes& s);
