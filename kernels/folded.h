// Backward passes that carry all cotangents of a few samples as one batch, by rules of our own for the operations of common
// networks. The graph is autograd's; where it has another operation, the pass is refused.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

// Rows of a Jacobian at some place of the graph: those from `first` on, the others being zero there.
struct Rows {
  int64_t first = 0;
  // [n, b, ...]: n cotangents of b samples. Strides may be 0 where all samples share their rows.
  at::Tensor values;
  // Nobody else holds `values`: it may be written to.
  bool own = false;
};

// What a rule may ask of the pass that it is part of.
struct Slice {
  // Samples of the whole graph, and those of this slice.
  int64_t batch = 0, begin = 0, count = 0;
  // Rows of the whole pass, of all its slices: cotangents times samples.
  int64_t rows = 0;
  // How many consumers each node has.
  const std::unordered_map<torch::autograd::Node*, int>* consumers = nullptr;
  // Weights as the rules lay them out, made once for all slices.
  std::unordered_map<torch::autograd::Node*, at::Tensor>* prepared = nullptr;
  // Scales [C] that wait for the convolution after a batch normalisation, which takes them into its weight.
  std::unordered_map<torch::autograd::Node*, at::Tensor>* scales = nullptr;

  // The samples of this slice in what the graph saved of all.
  at::Tensor of(const at::Tensor& saved) const { return saved.detach().narrow(0, begin, count); }
};

// One node: what its inputs receive, from what its outputs were given. Throws at a node without a rule.
std::vector<Rows> apply_rule(torch::autograd::Node* node, std::vector<Rows> given, const Slice& slice);

// Bytes of the weight that a node multiplies by; 0 of other nodes.
int64_t weight_bytes(torch::autograd::Node* node);

// Sizes of what the `i`-th edge of a node leads to, [B, ...].
std::vector<int64_t> sizes_behind(const torch::autograd::Node* node, size_t i);

// The cotangents [K, B, R] of `out` pulled back to `target`: [K, B, ...]; undefined where `out` does not depend on it. Asks
// `stops` before each slice, for a pass may take seconds, and throws where it is not 0.
at::Tensor vjp_folded(const at::Tensor& out, const torch::autograd::Edge& target, const at::Tensor& cotangents, int (*stops)());
