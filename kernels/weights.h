// Weights in the layouts that products and convolutions need, made once and kept while the weight exists unchanged.
#pragma once
#include <ATen/core/Tensor.h>

#include <compare>

enum class Laid {
  // [O, I, kh, kw] channels last.
  ChannelsLast,
  // [kh kw I, O]: images unrolled channels last, times this, are their convolution.
  Columns,
  // Of a matrix [O, I]: [I, O].
  Turned,
  // [O, I kh kw]: rows times this, folded, are the transposed convolution.
  Rows,
  // As `onto_few` reads it.
  Panels,
  // As `onto_maps` reads it, for the stride in `height` and `width`.
  Phases,
};

// A layout of a weight [O, I, kh, kw] or [O, I], and the taps that it contains: [top, top + height) x [left, left + width), or all.
struct Form {
  Laid layout;
  int64_t top = 0, height = INT64_MAX, left = 0, width = INT64_MAX;
  auto operator<=>(const Form&) const = default;
};

at::Tensor lay_out(const at::Tensor& weight, const Form& form);
// The same, from a cache: for a weight that needs no gradient.
at::Tensor laid_out(const at::Tensor& weight, const Form& form);
// Forgets the layouts of weights that no longer exist.
void forget_lost_weights();
