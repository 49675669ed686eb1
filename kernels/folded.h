// Backward passes that carry all cotangents of a few samples as one batch, by our own rules for the operations of common networks. The
// graph is autograd's; if it contains another operation, the pass is refused.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

// Rows of a Jacobian at some place of the graph: those from `first` on; the others are zero there.
struct Rows {
  int64_t first = 0;
  // [n, b, ...]: n cotangents of b samples. Strides may be 0 if all samples share their rows.
  at::Tensor values;
  // No other owner holds `values`, so it may be overwritten.
  bool own = false;
  // [b, ...] in the layout of `values`: they are yet to be multiplied by it, by the one rule that reads them next.
  at::Tensor factor = {};
  // Only the sign of `factor` counts: rows stay where it is positive, and are 0 elsewhere.
  bool masks = false;
  // If positive, there are no values yet, but so many rows that are unit vectors, those from the number `unit` on, for all samples.
  int64_t units = 0, unit = 0;

  bool arrive() const { return values.defined() || units > 0; }
};

inline Rows units_of(int64_t first, int64_t unit, int64_t units) {
  Rows rows;
  rows.first = first, rows.unit = unit, rows.units = units;
  return rows;
}

// What a rule can learn about its pass.
struct Slice {
  // Samples of the whole graph, and those of this slice.
  int64_t batch = 0, begin = 0, count = 0;
  // Rows of the whole pass, over all its slices: cotangents times samples.
  int64_t rows = 0;
  // How many consumers each node has.
  const std::unordered_map<torch::autograd::Node*, int>* consumers = nullptr;
  // Weights in the layout of the rules, made once for all slices.
  std::unordered_map<torch::autograd::Node*, at::Tensor>* prepared = nullptr;
  // Scales [C] that wait for the convolution after a batch normalisation; it multiplies its weight by them.
  std::unordered_map<torch::autograd::Node*, at::Tensor>* scales = nullptr;

  // The part for this slice's samples of a tensor that the graph saved for all samples.
  at::Tensor of(const at::Tensor& saved) const { return part(saved.detach()); }
  // The same of one without a graph.
  at::Tensor part(const at::Tensor& all) const { return count == batch ? all : all.narrow(0, begin, count); }
};

// Computes what a node's inputs receive from what its outputs received. Throws at a node without a rule.
using Rule = std::function<std::vector<Rows>(std::vector<Rows>, const Slice&)>;

// The rule of a node, which has looked up what all slices share. `consumers`: how many each node has.
Rule rule_of(torch::autograd::Node* node, const std::unordered_map<torch::autograd::Node*, int>& consumers);

// The same rows of the output number `i` of a node, with values.
Rows there(Rows rows, const torch::autograd::Node* node, size_t i, const Slice& slice);

// Bytes of the weight by which a node multiplies; 0 for other nodes.
int64_t weight_bytes(torch::autograd::Node* node);

// Sizes, [B, ...], of the tensor to which the `i`-th edge of a node leads.
std::vector<int64_t> sizes_behind(const torch::autograd::Node* node, size_t i);

// The cotangents [K, B, R] of `out` [B, R], or, if they are undefined, its R unit vectors for each sample, pulled back to `target`: [K, B,
// ...]; undefined if `out` does not depend on it. Calls `stops` before each
// slice, because a pass may take seconds, and throws if it is not 0.
at::Tensor vjp_folded(const at::Tensor& out, const torch::autograd::Edge& target, const at::Tensor& cotangents, int (*stops)());

// The Gram matrices [B, R, R] f64 of the rows of the Jacobian of `out` [B, R] f32 by `target`, summed in double; zero where `out` does not
// depend on it. The rows of a slice are multiplied while the cache holds them, and all rows never exist at once, unless the samples are too
// few for the threads.
at::Tensor grams_folded(const at::Tensor& out, const torch::autograd::Edge& target, int (*stops)());
