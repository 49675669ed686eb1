// How often the shared memory is asked in one column of a panel of gram.cuh, by a model of its banks: 32 of 4 bytes, so that half a
// warp's numbers in double come at once if no two of different addresses share a pair of banks. Prints a line an order:
// wavefronts, the least that they could be, patches, threads.
#include "../../kernels/eigh.cuh"

#include <cstdio>
#include <map>
#include <set>

namespace {

// Wavefronts of the reads of one number by each of up to 16 threads.
int wavefronts(const int* rows, int count) {
  std::map<int, std::set<int>> banks;
  for (int i = 0; i < count; ++i) banks[rows[i] * pb::panel_pitch % 16].insert(rows[i]);
  size_t most = 0;
  for (const auto& [bank, addresses] : banks) most = most < addresses.size() ? addresses.size() : most;
  return static_cast<int>(most);
}

}  // namespace

int main() {
  for (int n = 1; n <= 64; ++n) {
    const int side = pb::patch_side(n), down = pb::patches_of(n, side), patches = down * (down + 1) / 2;
    int total = 0, least = 0;
    for (int first = 0; first < patches; first += 16) {
      const int count = patches - first < 16 ? patches - first : 16;
      for (int which = 0; which < 2; ++which) {
        for (int s = 0; s < side; ++s) {
          int rows[16];
          for (int i = 0; i < count; ++i) {
            int pair[2];
            pb::patch_pair(first + i, down, pair[0], pair[1]);
            rows[i] = pb::smaller(pb::patch_row(pair[which], s, down), n - 1);
          }
          total += wavefronts(rows, count), ++least;
        }
      }
    }
    std::printf("%d %d %d %d %d\n", n, total, least, patches, pb::factor_threads(n));
  }
}
