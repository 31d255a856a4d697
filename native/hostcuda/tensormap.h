// What cuTensorMapEncodeTiled writes into the 128 opaque bytes of a tensor map, and the copy engine of hopper.cpp reads.
#pragma once
#include <cstdint>

namespace hostcuda {

constexpr uint32_t kTensorMapMagic = 0x70616d54;
constexpr int kTensorMapRank = 5;

// Innermost dimension first. Strides in bytes, of every dimension but the innermost; the box in elements.
struct TensorMap {
  uint32_t magic;
  uint8_t element_bytes, rank, swizzle, unused;
  uint64_t address;
  uint64_t strides[kTensorMapRank - 1];
  uint32_t sizes[kTensorMapRank];
  uint32_t box[kTensorMapRank];
};
static_assert(sizeof(TensorMap) <= 128, "fits into a CUtensorMap");

}  // namespace hostcuda
