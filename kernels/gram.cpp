// The host's instance of gram.cuh: the device's code, tile by tile.
#include "grain.h"
#include "gram.cuh"
#include "jobs.h"

#include <ATen/Parallel.h>

#include <vector>

namespace pb {

namespace {

template <class F> void gram_on_host(const Gram<F>& job) {
  const int across = (job.n + gram_tile - 1) / gram_tile;
  at::parallel_for(0, job.batch, rows_worth_a_thread(int64_t{job.n} * job.n * job.d), [&](int64_t begin, int64_t end) {
    std::vector<double> room(gram_room());
    Host team(256);
    for (int64_t b = begin; b < end; ++b) {
      for (int ti = 0; ti < across; ++ti) {
        for (int tj = 0; tj <= ti; ++tj) {
          gram_block(team, job.factor + b * job.n * job.d, job.n, job.d, ti, tj, job.gram + b * job.n * job.n, room.data());
        }
      }
    }
  });
}

}  // namespace

template <> void run_on_host(const Gram<float>& job) { gram_on_host(job); }
template <> void run_on_host(const Gram<double>& job) { gram_on_host(job); }

}  // namespace pb
