// A history made up for measuring: a cache filled with random K and V costs what a real one costs
// to read, and filling it needs none of the layers.
#include "formats/error.h"
#include "runtime/engine.h"
#include "runtime/forward.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

// Uniform with deviation 1: what follows is normalised like real K and V.
void fill_random(SplitMix64& random, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = static_cast<float>((random.uniform() - 0.5) * 3.4641016151377544);
}

}  // namespace

void Forward::make_up_kv() {
  Workspace& ws = workspace_;
  pool_.run(n(),
            [&](int64_t t) { rope_.fill(ws.rows[t].position, ws.rope.row(t, rope_.width())); });
  for (int l = 0; l < config_.n_layers(); ++l) {
    if (!config_.owns_kv(l)) continue;
    const int64_t width = int64_t{config_.layers[l].n_kv_heads} * config_.layers[l].head_dim;
    pool_.run(n(), [&](int64_t t) {
      SplitMix64 random(static_cast<uint64_t>(ws.rows[t].position) << 16 |
                        static_cast<uint64_t>(l));
      fill_random(random, width, ws.k.row(t, width));
      fill_random(random, width, ws.v.row(t, width));
      store_kv(l, t);
    });
    pack_pages(l);
  }
}

}  // namespace lapidary
