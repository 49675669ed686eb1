// The variable of a graph's derivative, and the number of cotangents at a time.
#pragma once
#include <torch/csrc/autograd/edge.h>
#include <ATen/core/Tensor.h>

#include <optional>

// The linear map with which the graph of `out` begins, if all of `out` depends on `in` [B, ...] only through h = flatten(in) M + c, M [D,
// H]; c is arbitrary.
struct Stem {
  // Autograd's edge to h [B, H].
  torch::autograd::Edge edge;
  // M, [D, H].
  at::Tensor map;
};

// The stem of `out`'s graph below the leaf `in`; none if the graph begins in another way.
std::optional<Stem> find_stem(const at::Tensor& out, const at::Tensor& in);
