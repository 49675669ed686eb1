// The rules of folded backward passes for convolutions: which way is fastest, and the weight as that way reads it.
#include "lanes.h"
#include "onto.h"
#include "rules.h"
#include "weights.h"

#include <ATen/ATen.h>

namespace {

using at::Tensor;
using torch::autograd::Node;
namespace generated = torch::autograd::generated;

// Convolutions onto at most this many channels are a product and a fold: oneDNN has no fast way for them.
constexpr int64_t kFewChannels = 4;

// Which of our own loops takes the rows back through the convolution.
enum class Onto { None, Few, Maps };

Onto onto(const generated::ConvolutionBackward0* n, const Tensor& w) {
  const auto is = [](const std::vector<c10::SymInt>& all, auto&& holds) {
    return all.size() == 2 && holds(all[0].expect_int()) && holds(all[1].expect_int());
  };
  const auto sizes = sizes_behind(n, 0);
  const bool plain = w.scalar_type() == at::kFloat && sizes.size() == 4 && w.dim() == 4 && !n->transposed && n->groups.expect_int() == 1 &&
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

Window window_of(const generated::ConvolutionBackward0* n, const Tensor& w, int64_t out_height, int64_t out_width) {
  const auto sizes = sizes_behind(n, 0);
  return {sizes[1], sizes[2], sizes[3], out_height, out_width, w.size(2), w.size(3), ints(n->stride), ints(n->padding)};
}

Form form_of(Onto way, const generated::ConvolutionBackward0* n) {
  return way == Onto::Few ? Form{Laid::Panels} : Form{Laid::Phases, 0, n->stride[0].expect_int(), 0, n->stride[1].expect_int()};
}

// By one of our own loops, if it is plain from the graph that one takes the rows.
Onto loop_of(const generated::ConvolutionBackward0* n, const Tensor& w) {
  const auto out = n->input_metadata(0).shape_as_dim_vector();
  const Onto way = onto(n, w);
  return way == Onto::None || is_single(n, w, out[2].expect_int(), out[3].expect_int()) ? Onto::None : way;
}

Tensor by_loop(Onto way, const Source& source, const Tensor& map, const Window& window) {
  return way == Onto::Few ? onto_few(source, map, window) : onto_maps(source, map, window);
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
  const Onto way = single ? Onto::None : onto(n, w);
  const bool few = square && channels <= kFewChannels;
  const Form form = single              ? Form{Laid::Rows, padding[0], height, padding[1], width}
                    : way != Onto::None ? form_of(way, n)
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
  if (way != Onto::None) return by_loop(way, source, map, window_of(n, w, g.size(2), g.size(3)));
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


// Rows [n, b, O, h, w] by `f`, which takes them as a source.
template <class F> Rows convolved(Rows rows, F&& f) {
  if (rows.factor.defined() && is_shared(rows.values)) {
    // Each sample multiplies them by its own numbers: then they are no longer shared.
    const Tensor images = f(Source{rows.values.select(1, 0), rows.factor, true, rows.masks});
    return {rows.first, images.unflatten(0, rows.values.sizes().slice(0, 2)), true};
  }
  return {rows.first, on_batch(rows.values, [&](const Tensor& g) { return f(Source{g, rows.factor, false, rows.masks}); }), true};
}

}  // namespace

bool reads_factor(Node* node) {
  auto* n = dynamic_cast<generated::ConvolutionBackward0*>(node);
  return n != nullptr && n->input_metadata(0).shape_as_dim_vector().size() == 4 && loop_of(n, n->weight_.unpack()) != Onto::None;
}

Rule rule_of_convolution(generated::ConvolutionBackward0* n) {
  const auto in_general = [n](std::vector<Rows> given, const Slice& slice) {
    TORCH_CHECK(given.size() == 1 && given[0].values.dim() == 5, "folded: a convolution that is not of images");
    return std::vector<Rows>{convolved(std::move(given[0]), [&](const Source& source) { return through(n, source, slice); })};
  };
  const Tensor w = n->weight_.unpack();
  const Onto way = n->input_metadata(0).shape_as_dim_vector().size() == 4 ? loop_of(n, w) : Onto::None;
  if (way == Onto::None || w.requires_grad()) return in_general;
  const auto out = n->input_metadata(0).shape_as_dim_vector();
  const Tensor map = laid_out(w, form_of(way, n));
  const Window window = window_of(n, w, out[2].expect_int(), out[3].expect_int());
  return [=](std::vector<Rows> given, const Slice& slice) {
    // The weight of this pass is another, scaled one.
    if (slice.scales->count(n) != 0) return in_general(std::move(given), slice);
    return std::vector<Rows>{convolved(std::move(given[0]), [&](const Source& source) { return by_loop(way, source, map, window); })};
  };
}
