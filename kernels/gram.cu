// Launcher of gram.cuh: one block for each tile on or below the diagonal.
#include "gram.cuh"
#include "jobs.h"
#include "launch.cuh"

namespace pb {

namespace {

template <class F> __global__ void __launch_bounds__(256) gram_tiles(Gram<F> job, int tiles) {
  PB_SLOTS(slots);
  const int64_t b = blockIdx.x / tiles;
  int tile = blockIdx.x - static_cast<int>(b) * tiles, ti = 0;
  while (tile > ti) tile -= ++ti;
  Block block(slots);
  gram_block(block, job.factor + b * job.n * job.d, job.n, job.d, ti, tile, job.gram + b * job.n * job.n,
             reinterpret_cast<double*>(dynamic_shared));
}

template <class F> const char* start_gram(const Gram<F>& job, Stream stream) {
  const int across = (job.n + gram_tile - 1) / gram_tile, tiles = triangle_size(across);
  return start(gram_tiles<F>, job.batch * tiles, 256, gram_room() * int64_t{sizeof(double)}, stream, job, tiles);
}

}  // namespace

template <> const char* launch(const Gram<float>& job, Stream stream) { return start_gram(job, stream); }
template <> const char* launch(const Gram<double>& job, Stream stream) { return start_gram(job, stream); }

}  // namespace pb
