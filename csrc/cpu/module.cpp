// The library's only exported names; the ops register themselves when it is loaded.
#include <algorithm>

#include "cpu/map.h"

extern "C" {

__attribute__((visibility("default"))) const char* kdops_cpu_level() {
  return kdops::level_names[kdops::level()];
}

// For tests: level 0, 1 or 2, or the best below that the processor has.
__attribute__((visibility("default"))) void kdops_set_cpu_level(int level) {
  kdops::chosen_level = static_cast<kdops::Level>(std::clamp(level, 0, int(kdops::best_level())));
}

// For tests: the tiles of maps computed so far. A batch of up to 64 rows has one tile a map.
__attribute__((visibility("default"))) int64_t kdops_map_tiles_built() {
  return kdops::map_tiles_built.load();
}
}
