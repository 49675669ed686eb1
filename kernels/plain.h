// What operations of our own take; everything else is libtorch's.
#pragma once
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/Tensor.h>

// Numbers in f32 on a CPU, without a tangent, and not wrapped by functorch.
inline bool is_plain(const at::Tensor& t) {
  return t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided && !at::isTensorSubclassLike(t) && !t.is_neg() &&
         !t._fw_grad(0).defined();
}
