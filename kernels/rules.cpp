// The rules of folded backward passes (folded.h), one for each operation. Rows are [n, b, ...]; rows of maps are channels last.
#include "folded.h"
#include "lanes.h"
#include "onto.h"
#include "weights.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/generated/Functions.h>

#include <algorithm>
#include <string>

namespace {

using at::Tensor;
using torch::autograd::Node;
namespace generated = torch::autograd::generated;

// Convolutions onto at most this many channels are a product and a fold: oneDNN has no fast way for them.
constexpr int64_t kFewChannels = 4;

std::vector<int64_t> ints(const std::vector<c10::SymInt>& from) {
  std::vector<int64_t> to;
  for (const auto& i : from) to.push_back(i.expect_int());
  return to;
}

// Whether all samples share their rows.
bool is_shared(const Tensor& rows) { return rows.size(1) > 1 && rows.stride(1) == 0; }

// f on the rows as one batch [n b, ...]; on the rows of one sample only if all samples share them.
template <class F> Tensor on_batch(const Tensor& rows, F&& f) {
  const bool shared = is_shared(rows);
  const Tensor own = shared ? rows.narrow(1, 0, 1) : rows;
  const Tensor result = f(own.flatten(0, 1));
  auto sizes = result.sizes().vec();
  sizes[0] = own.size(0);
  sizes.insert(sizes.begin() + 1, own.size(1));
  // A view: of `unflatten` the names alone take longer.
  const Tensor opened = result.view(sizes);
  if (!shared) return opened;
  sizes[1] = rows.size(1);
  return opened.expand(sizes);
}

// Rows times d [b, ...], in the same layout.
Rows times(Rows rows, const Tensor& d) {
  const bool last = rows.values.dim() == 5 && rows.values.stride(2) == 1 && rows.values.size(2) > 1;
  const Tensor factor = (last ? d.contiguous(at::MemoryFormat::ChannelsLast) : d).unsqueeze(0);
  if (rows.own && !is_shared(rows.values)) return {rows.first, rows.values.mul_(factor), true};
  return {rows.first, rows.values * factor, true};
}

// The derivative of an elementwise operation, [b, ...]; undefined if the node is not one.
Tensor pointwise(Node* node, const Slice& slice) {
  const auto self = [&](auto* n) { return slice.of(n->self_.unpack()); };
  const auto result = [&](auto* n) { return slice.of(n->result_.unpack(node->getptr())); };
  if (auto* n = dynamic_cast<generated::ReluBackward0*>(node)) {
    // 0 or 1, for a result is not negative.
    return result(n).sign();
  }
  if (auto* n = dynamic_cast<generated::LeakyReluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::leaky_relu_backward(at::ones_like(x), x, n->negative_slope, false);
  }
  if (auto* n = dynamic_cast<generated::TanhBackward0*>(node)) {
    const Tensor y = result(n);
    return at::tanh_backward(at::ones_like(y), y);
  }
  if (auto* n = dynamic_cast<generated::SigmoidBackward0*>(node)) {
    const Tensor y = result(n);
    return at::sigmoid_backward(at::ones_like(y), y);
  }
  if (auto* n = dynamic_cast<generated::ExpBackward0*>(node)) return result(n);
  if (auto* n = dynamic_cast<generated::SiluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::silu_backward(at::ones_like(x), x);
  }
  if (auto* n = dynamic_cast<generated::GeluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::gelu_backward(at::ones_like(x), x, n->approximate);
  }
  if (auto* n = dynamic_cast<generated::EluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::elu_backward(at::ones_like(x), n->alpha, n->scale, n->input_scale, false, x);
  }
  if (auto* n = dynamic_cast<generated::SoftplusBackward0*>(node)) {
    const Tensor x = self(n);
    return at::softplus_backward(at::ones_like(x), x, n->beta, n->threshold);
  }
  if (auto* n = dynamic_cast<generated::HardtanhBackward0*>(node)) {
    const Tensor x = self(n);
    return at::hardtanh_backward(at::ones_like(x), x, n->min_val, n->max_val);
  }
  return {};
}

// Puts rows that were cut out of a larger tensor [b, ...] back into zeros of its sizes.
Rows put_back(Rows rows, const std::vector<c10::SymInt>& whole, int64_t dim, int64_t start, int64_t end, int64_t step) {
  auto sizes = ints(whole);
  if (dim < 0) dim += static_cast<int64_t>(sizes.size());
  TORCH_CHECK(dim > 0, "folded: samples are taken apart");
  const bool shared = is_shared(rows.values);
  const Tensor own = shared ? rows.values.narrow(1, 0, 1) : rows.values;
  sizes[0] = own.size(1);
  sizes.insert(sizes.begin(), own.size(0));
  Tensor values = at::zeros(sizes, own.options());
  values.slice(dim + 1, start, end, step).copy_(own);
  sizes[1] = rows.values.size(1);
  return {rows.first, shared ? values.expand(sizes) : values, !shared};
}

// Those of `rows` that are not all zero, if all samples share them; otherwise all rows.
Rows trimmed(Rows rows) {
  if (rows.values.size(1) > 1 && !is_shared(rows.values)) return rows;
  const Tensor any = rows.values.select(1, 0).flatten(1).ne(0).any(1).contiguous();
  const bool* is_there = any.const_data_ptr<bool>();
  int64_t first = 0, end = any.size(0);
  while (first < end && !is_there[first]) ++first;
  while (end > first && !is_there[end - 1]) --end;
  if (first == end) return {};
  return {rows.first + first, rows.values.narrow(0, first, end - first), false};
}

Rows reshaped(Rows rows, std::vector<int64_t> sizes, const Slice& slice) {
  TORCH_CHECK(!sizes.empty() && sizes[0] == slice.batch, "folded: samples are mixed by a view");
  const bool shared = is_shared(rows.values);
  const Tensor own = shared ? rows.values.narrow(1, 0, 1) : rows.values;
  sizes[0] = own.size(1);
  sizes.insert(sizes.begin(), own.size(0));
  Tensor values = own.reshape(sizes);
  sizes[1] = rows.values.size(1);
  return {rows.first, shared ? values.expand(sizes) : values, rows.own};
}

// Which of our own loops takes the rows back through the convolution.
enum class Onto { None, Few, Maps };

Onto onto(const generated::ConvolutionBackward0* n, const Tensor& w, const Tensor& rows) {
  const auto is = [](const std::vector<c10::SymInt>& all, auto&& holds) {
    return all.size() == 2 && holds(all[0].expect_int()) && holds(all[1].expect_int());
  };
  const auto sizes = sizes_behind(n, 0);
  const bool plain = rows.scalar_type() == at::kFloat && sizes.size() == 4 && w.dim() == 4 && !n->transposed && n->groups.expect_int() == 1 &&
                     is(n->dilation, [](int64_t d) { return d == 1; }) && is(n->padding, [](int64_t p) { return p >= 0; });
  if (!plain) return Onto::None;
  if (sizes[1] <= kFewChannels) return Onto::Few;
  const bool strided = is(n->stride, [](int64_t s) { return s > 1; });
  return strided && pb::suits(sizes[1], static_cast<int64_t>(w.nbytes())) ? Onto::Maps : Onto::None;
}

// From a single place, whose window covers the whole image: one product with the taps that lie on it.
bool is_single(const generated::ConvolutionBackward0* n, const Tensor& w, int64_t out_height, int64_t out_width) {
  if (n->transposed || n->groups.expect_int() != 1 || out_height != 1 || out_width != 1) return false;
  const auto sizes = sizes_behind(n, 0);
  return n->dilation[0].expect_int() == 1 && n->dilation[1].expect_int() == 1 && sizes[2] + n->padding[0].expect_int() <= w.size(2) &&
         sizes[3] + n->padding[1].expect_int() <= w.size(3);
}

// Rows back through a convolution onto [count, I, H, W].
Tensor through(generated::ConvolutionBackward0* n, const Source& source, const Slice& slice) {
  const Tensor& g = source.rows;
  const auto stride = ints(n->stride), padding = ints(n->padding), dilation = ints(n->dilation);
  const auto sizes = sizes_behind(n, 0);
  TORCH_CHECK(sizes.size() == 4 && sizes[0] == slice.batch, "folded: a convolution that is not of images");
  const int64_t groups = n->groups.expect_int();
  const bool square = dilation[0] == 1 && dilation[1] == 1 && groups == 1 && !n->transposed;
  const int64_t height = sizes[2], width = sizes[3], channels = sizes[1];
  const Tensor w = n->weight_.unpack();
  const int64_t kh = w.size(2), kw = w.size(3);
  const bool single = is_single(n, w, g.size(2), g.size(3));
  const Onto way = single ? Onto::None : onto(n, w, g);
  const bool few = square && channels <= kFewChannels;
  const Form form = single              ? Form{Laid::Rows, padding[0], height, padding[1], width}
                    : way == Onto::Few  ? Form{Laid::Panels}
                    : way == Onto::Maps ? Form{Laid::Phases, 0, stride[0], 0, stride[1]}
                                        : Form{few ? Laid::Rows : Laid::ChannelsLast};
  const auto scale = slice.scales->find(n);
  Tensor map;
  if (scale == slice.scales->end() && !w.requires_grad()) {
    map = laid_out(w, form);
  } else {
    // Scaled, or about to change: the pass needs its own copy.
    Tensor& own = (*slice.prepared)[n];
    if (!own.defined()) {
      // The output's channels: the first axis, or the second one of a transposed convolution.
      const auto shape = n->transposed ? std::vector<int64_t>{1, -1, 1, 1} : std::vector<int64_t>{-1, 1, 1, 1};
      own = lay_out(scale == slice.scales->end() ? w.detach() : w.detach() * scale->second.reshape(shape), form);
    }
    map = own;
  }
  const Window window{channels, height, width, g.size(2), g.size(3), kh, kw, stride, padding};
  if (way == Onto::Few) return onto_few(source, map, window);
  if (way == Onto::Maps) return onto_maps(source, map, window);
  if (single) return at::mm(g.flatten(1), map).unflatten(1, {channels, height, width});
  if (few) {
    const Tensor columns = at::matmul(g.permute({0, 2, 3, 1}).flatten(1, 2), map).transpose(1, 2);
    return at::col2im(columns, {height, width}, {kh, kw}, dilation, padding, stride);
  }
  const Tensor maps = g.contiguous(at::MemoryFormat::ChannelsLast);
  if (n->transposed) return at::convolution(maps, map, {}, stride, padding, dilation, false, {0, 0}, groups);
  const auto rest = [&](int64_t side, int64_t out, int64_t k, int d) {
    return side - ((out - 1) * stride[d] - 2 * padding[d] + dilation[d] * (k - 1) + 1);
  };
  return at::convolution(maps, map, {}, stride, padding, dilation, true,
                         {rest(height, g.size(2), kh, 0), rest(width, g.size(3), kw, 1)}, groups);
}

// Whether `next`, and it alone, reads the rows and multiplies them itself, in the cache.
bool multiplies(Node* next, const Tensor& rows, const Slice& slice) {
  auto* n = dynamic_cast<generated::ConvolutionBackward0*>(next);
  if (n == nullptr || rows.dim() != 5 || rows.numel() == 0) return false;
  const auto consumers = slice.consumers->find(next);
  if (consumers == slice.consumers->end() || consumers->second != 1) return false;
  const Tensor w = n->weight_.unpack();
  return onto(n, w, rows) != Onto::None && !is_single(n, w, rows.size(3), rows.size(4));
}

// Rows [m, C, h, w] back through max pooling: each goes to the place of its maximum.
Tensor unpooled(generated::MaxPool2DWithIndicesBackward0* n, const Tensor& rows, const Slice& slice) {
  const auto sizes = sizes_behind(n, 0);
  TORCH_CHECK(sizes.size() == 4 && sizes[0] == slice.batch, "folded: pooling that is not of images");
  // The indices are for all samples; rows of one sample are copied for each.
  const Tensor places = slice.of(n->result1_.unpack(n->getptr())).flatten(2).unsqueeze(0).expand({rows.size(0), -1, -1, -1});
  Tensor all = at::zeros({rows.size(0), rows.size(1), sizes[1], sizes[2] * sizes[3]}, rows.options());
  all.scatter_add_(3, places, rows.flatten(3));
  return all.unflatten(3, {sizes[2], sizes[3]});
}

// Rows [m, C, h, w] back through mean pooling.
Tensor unmeaned(generated::AvgPool2DBackward0* n, const Tensor& g) {
  const auto sizes = sizes_behind(n, 0);
  TORCH_CHECK(sizes.size() == 4, "folded: pooling that is not of images");
  const Tensor shape = at::empty({1}, g.options()).expand({g.size(0), sizes[1], sizes[2], sizes[3]});
  return at::avg_pool2d_backward(g.contiguous(), shape.contiguous(), n->kernel_size, n->stride, n->padding, n->ceil_mode,
                                 n->count_include_pad, n->divisor_override);
}

// Batch normalisation with fixed statistics is a scale of each channel.
Rows normalised(generated::NativeBatchNormBackward0* n, Rows rows, const Slice& slice) {
  TORCH_CHECK(!n->training, "folded: batch normalisation in training mode");
  Tensor scale = (n->running_var_.unpack().detach() + n->eps).rsqrt();
  const Tensor weight = n->weight_.unpack();
  if (weight.defined()) scale = scale * weight.detach();
  Node* next = n->next_edge(0).function.get();
  const auto consumers = slice.consumers->find(next);
  auto* convolution = dynamic_cast<generated::ConvolutionBackward0*>(next);
  // It is worth scaling the weight if the pass has more numbers to scale than the weight; for all of its slices or for none, because they
  // share the weight.
  const int64_t numbers = rows.values.select(0, 0).select(0, 0).numel() * slice.rows;
  if (convolution != nullptr && consumers != slice.consumers->end() && consumers->second == 1 &&
      numbers > convolution->weight_.unpack().numel()) {
    slice.scales->insert_or_assign(next, scale);
    return rows;
  }
  std::vector<int64_t> sizes(rows.values.dim() - 1, 1);
  sizes[1] = scale.size(0);
  return times(std::move(rows), scale.reshape(sizes));
}

}  // namespace

int64_t weight_bytes(Node* node) {
  const auto bytes = [](const Tensor& weight) { return weight.defined() ? static_cast<int64_t>(weight.nbytes()) : 0; };
  if (auto* n = dynamic_cast<generated::ConvolutionBackward0*>(node)) return bytes(n->weight_.unpack());
  if (auto* n = dynamic_cast<generated::AddmmBackward0*>(node)) return bytes(n->mat2_.unpack());
  if (auto* n = dynamic_cast<generated::MmBackward0*>(node)) return bytes(n->mat2_.unpack());
  return 0;
}

std::vector<Rows> apply_rule(Node* node, std::vector<Rows> given, const Slice& slice) {
  if (auto* n = dynamic_cast<generated::SplitBackward0*>(node)) {
    const int64_t size = n->split_size.expect_int();
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    const int64_t all = n->self_sym_sizes[dim].expect_int();
    Rows rows;
    for (size_t i = 0; i < given.size(); ++i) {
      if (!given[i].values.defined()) continue;
      const int64_t start = static_cast<int64_t>(i) * size;
      auto part = put_back(std::move(given[i]), n->self_sym_sizes, dim, start, std::min(start + size, all), 1);
      if (!rows.values.defined()) {
        rows = std::move(part);
      } else if (rows.first + rows.values.size(0) == part.first) {
        rows = {rows.first, at::cat({rows.values, part.values}, 0), true};
      } else if (part.first + part.values.size(0) == rows.first) {
        rows = {part.first, at::cat({part.values, rows.values}, 0), true};
      } else {
        TORCH_CHECK(rows.first == part.first && rows.values.size(0) == part.values.size(0), "folded: parts of other rows");
        rows = {rows.first, rows.values + part.values, true};
      }
    }
    return {rows};
  }
  TORCH_CHECK(given.size() == 1, "folded: ", node->name(), " has several outputs");
  Rows rows = std::move(given[0]);
  if (auto* n = dynamic_cast<generated::CatBackward0*>(node)) {
    std::vector<Rows> parts;
    int64_t start = 0;
    for (size_t i = 0; i < node->num_outputs(); ++i) {
      TORCH_CHECK(node->next_edge(i).function != nullptr, "folded: a constant is joined");
      const auto sizes = sizes_behind(node, i);
      const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(sizes.size()) : n->dim;
      TORCH_CHECK(dim > 0, "folded: samples are joined");
      parts.push_back(trimmed({rows.first, rows.values.narrow(dim + 1, start, sizes[dim]), false}));
      start += sizes[dim];
    }
    return parts;
  }
  if (auto* n = dynamic_cast<generated::ReluBackward0*>(node); n != nullptr && rows.values.size(0) == 1) {
    // Only one row: a single call.
    const Tensor y = slice.of(n->result_.unpack(n->getptr())).unsqueeze(0);
    return {{rows.first, at::threshold_backward(rows.values, y, 0), true}};
  }
  if (const Tensor d = pointwise(node, slice); d.defined()) {
    if (multiplies(node->next_edge(0).function.get(), rows.values, slice)) {
      rows.factor = d;
      return {rows};
    }
    return {times(std::move(rows), d)};
  }
  if (auto* n = dynamic_cast<generated::AddmmBackward0*>(node)) {
    TORCH_CHECK(n->alpha.equal(1) && rows.values.dim() == 3, "folded: a scaled product");
    const Tensor map = n->mat2_.unpack().detach().t();
    // What is added to the product may depend on the image, too.
    Rows added{rows.first, n->beta.equal(1) ? rows.values : rows.values * n->beta, false};
    return {std::move(added), {rows.first, on_batch(rows.values, [&](const Tensor& g) { return at::mm(g, map); }), true}};
  }
  if (auto* n = dynamic_cast<generated::MmBackward0*>(node)) {
    const Tensor map = n->mat2_.unpack().detach().t();
    return {{rows.first, on_batch(rows.values, [&](const Tensor& g) { return at::mm(g, map); }), true}};
  }
  if (auto* n = dynamic_cast<generated::ConvolutionBackward0*>(node)) {
    TORCH_CHECK(rows.values.dim() == 5, "folded: a convolution that is not of images");
    if (rows.factor.defined() && is_shared(rows.values)) {
      // Each sample multiplies them by its own numbers: then they are no longer shared.
      const Tensor images = through(n, {rows.values.select(1, 0), rows.factor, true}, slice);
      return {{rows.first, images.unflatten(0, rows.values.sizes().slice(0, 2)), true}};
    }
    return {{rows.first, on_batch(rows.values, [&](const Tensor& g) { return through(n, {g, rows.factor}, slice); }), true}};
  }
  if (auto* n = dynamic_cast<generated::MaxPool2DWithIndicesBackward0*>(node)) {
    return {{rows.first, unpooled(n, rows.values, slice), true}};
  }
  if (auto* n = dynamic_cast<generated::AvgPool2DBackward0*>(node)) {
    return {{rows.first, on_batch(rows.values, [&](const Tensor& g) { return unmeaned(n, g); }), true}};
  }
  if (auto* n = dynamic_cast<generated::NativeBatchNormBackward0*>(node)) return {normalised(n, std::move(rows), slice)};
  if (auto* n = dynamic_cast<generated::ViewBackward0*>(node)) return {reshaped(std::move(rows), ints(n->self_sym_sizes), slice)};
  if (auto* n = dynamic_cast<generated::ReshapeAliasBackward0*>(node)) return {reshaped(std::move(rows), ints(n->self_sym_sizes), slice)};
  if (auto* n = dynamic_cast<generated::UnsafeViewBackward0*>(node)) return {reshaped(std::move(rows), ints(n->self_sym_sizes), slice)};
  if (dynamic_cast<generated::SqueezeBackward1*>(node) || dynamic_cast<generated::UnsqueezeBackward0*>(node)) {
    return {reshaped(std::move(rows), sizes_behind(node, 0), slice)};
  }
  if (auto* n = dynamic_cast<generated::SliceBackward0*>(node)) {
    const auto bound = [](const std::optional<c10::SymInt>& b, int64_t otherwise) { return b ? b->expect_int() : otherwise; };
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    const int64_t start = bound(n->start, 0), end = bound(n->end, INT64_MAX), step = n->step.expect_int();
    // [:] along the samples, as in pairs[:, :, 0].
    if (start == 0 && end >= n->self_sym_sizes[dim].expect_int() && step == 1) return {rows};
    return {put_back(std::move(rows), n->self_sym_sizes, dim, start, end, step)};
  }
  if (auto* n = dynamic_cast<generated::SelectBackward0*>(node)) {
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    int64_t at = n->index.expect_int();
    if (at < 0) at += n->self_sym_sizes[dim].expect_int();
    rows.values = rows.values.unsqueeze(dim + 1);
    return {put_back(std::move(rows), n->self_sym_sizes, dim, at, at + 1, 1)};
  }
  if (dynamic_cast<generated::CloneBackward0*>(node) || dynamic_cast<generated::AliasBackward0*>(node)) return {rows};
  if (auto* n = dynamic_cast<generated::MulBackward0*>(node)) {
    // By a number, or by numbers that all samples share.
    const bool by_other = node->next_edge(1).function == nullptr;
    TORCH_CHECK(by_other != (node->next_edge(0).function == nullptr), "folded: a product of two that depend on the image");
    const Tensor factor = (by_other ? n->other_ : n->self_).unpack();
    TORCH_CHECK(factor.defined() && factor.dim() == 0, "folded: a product with a tensor");
    Rows scaled{rows.first, rows.values * factor.detach(), true};
    return by_other ? std::vector<Rows>{scaled} : std::vector<Rows>{{}, scaled};
  }
  if (auto* n = dynamic_cast<generated::MulBackward1*>(node)) return {{rows.first, rows.values * n->other, true}};
  if (auto* n = dynamic_cast<generated::DivBackward1*>(node)) return {{rows.first, rows.values / n->other, true}};
  if (dynamic_cast<generated::NegBackward0*>(node)) return {{rows.first, rows.values.neg(), true}};
  if (dynamic_cast<generated::AddBackward1*>(node) || dynamic_cast<generated::SubBackward1*>(node)) return {rows};
  if (auto* n = dynamic_cast<generated::AddBackward0*>(node)) {
    // From here on, two readers share each of the two.
    rows.own = false;
    std::vector<Rows> both{rows, rows};
    if (!n->alpha.equal(1)) both[1].values = rows.values * n->alpha;
    return both;
  }
  TORCH_CHECK(false, "folded: no rule for ", node->name());
}
