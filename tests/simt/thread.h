// A CUDA thread, and how messages name it.
#pragma once

#include <cstring>
#include <string>

#include "emulator.h"
#include "fiber.h"
#include "launch_limits.h"

namespace simt {

struct Thread {
  Fiber* fiber;
  uint3 index;
  bool done;
  Site site;        // where it waits,
  uint64_t result;  // and what for
  unsigned mask;    // in a warp operation: its lanes,
  uint64_t given;   // what this one gives,
  int source;       // and whose it wants, or
};
constexpr int kNothing = -1;

inline std::string text(const Thread& thread) {
  const std::string name = "thread " + text(thread.index);
  if (thread.done) return name + " has returned";
  const Site& site = thread.site;
  return name + " in " + site.operation + " at " + site.file + ":" + std::to_string(site.line);
}

inline bool same_text(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
inline bool same_place(const Thread& a, const Thread& b) {
  return a.site.line == b.site.line && same_text(a.site.file, b.site.file) &&
         same_text(a.site.operation, b.site.operation);
}

}  // namespace simt
