// What the rules of folded backward passes share.
#pragma once
#include "folded.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/generated/Functions.h>

inline std::vector<int64_t> ints(const std::vector<c10::SymInt>& from) {
  std::vector<int64_t> to;
  for (const auto& i : from) to.push_back(i.expect_int());
  return to;
}

// Whether all samples share their rows.
inline bool is_shared(const at::Tensor& rows) { return rows.size(1) > 1 && rows.stride(1) == 0; }

// f on the rows as one batch [n b, ...]; on the rows of one sample only if all samples share them.
template <class F> at::Tensor on_batch(const at::Tensor& rows, F&& f) {
  const bool shared = is_shared(rows);
  const at::Tensor own = shared ? rows.narrow(1, 0, 1) : rows;
  const at::Tensor result = f(own.flatten(0, 1));
  auto sizes = result.sizes().vec();
  sizes[0] = own.size(0);
  sizes.insert(sizes.begin() + 1, own.size(1));
  // A view: of `unflatten` the names alone take longer.
  const at::Tensor opened = result.view(sizes);
  if (!shared) return opened;
  sizes[1] = rows.size(1);
  return opened.expand(sizes);
}

// Whether a node is a convolution that multiplies its rows by their factor itself, in the cache.
bool reads_factor(torch::autograd::Node* node);
Rule rule_of_convolution(torch::autograd::generated::ConvolutionBackward0* node);
