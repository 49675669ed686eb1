// What a graph is differentiated by, and by how many cotangents at once.
#pragma once
#include <torch/csrc/autograd/edge.h>
#include <ATen/core/Tensor.h>

#include <optional>

// The linear map that the graph of `out` begins with, where all of `out` depends on `in` [B, ...] through
// h = flatten(in) M + c, M [D, H], alone; c is what it may be.
struct Stem {
  // Autograd's edge to h [B, H].
  torch::autograd::Edge edge;
  // M, [D, H].
  at::Tensor map;
};

// The stem of `out`'s graph below `in`, a leaf; none where it begins otherwise.
std::optional<Stem> find_stem(const at::Tensor& out, const at::Tensor& in);
