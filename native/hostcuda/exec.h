// The executor of hostcuda: runs the grid of a kernel that was compiled as C++.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace hostcuda {

struct LaunchConfig {
  unsigned grid[3], block[3];
  size_t shared_bytes;
};

struct KernelEntry {
  const char* name;
  void (*body)(const void*);
  size_t param_bytes;
  int max_threads;
  uintptr_t image_begin, image_end;  // where the module lies in memory
};

// Runs every block. "" or one sentence: kernel, block, thread, what happened.
std::string execute(const KernelEntry& kernel, const LaunchConfig& config, const void* params);

}  // namespace hostcuda
