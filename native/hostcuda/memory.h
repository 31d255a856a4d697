// Device memory of hostcuda: every allocation lies between inaccessible pages of one reserved range, so that an address leads to its
// allocation by one table lookup.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hostcuda {

struct Allocation {
  uintptr_t begin;  // a multiple of 256
  size_t bytes;     // as asked for
  uint64_t id;      // 1, 2, … in order of allocation
  bool live;        // false after cuMemFree: an access is a use after free
};

// The allocation on whose pages the address lies: inside it, in its red zones, or on a guard page beside it (the allocation before the page
// wins). False for memory that is not the device's. Takes no lock.
bool find_allocation(uintptr_t address, Allocation* out);

}  // namespace hostcuda
