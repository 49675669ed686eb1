// Weights in the layouts that products and convolutions want, made once and kept as long as the weight lives unchanged.
#pragma once
#include <ATen/core/Tensor.h>

#include <compare>

enum class Laid {
  // [O, I, kh, kw] channels last.
  ChannelsLast,
  // [kh kw I, O]: images unrolled channels last, times this, are their convolution.
  Columns,
  // [O, I kh kw]: rows times this, folded, are the transpose of it.
  Rows,
};

// A layout of a weight [O, I, kh, kw], and which of its taps: [top, top + height) x [left, left + width), or all.
struct Form {
  Laid layout;
  int64_t top = 0, height = INT64_MAX, left = 0, width = INT64_MAX;
  auto operator<=>(const Form&) const = default;
};

at::Tensor lay_out(const at::Tensor& weight, const Form& form);
// The same, kept: of a weight that needs no gradient.
at::Tensor laid_out(const at::Tensor& weight, const Form& form);
