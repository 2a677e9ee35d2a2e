// Random JSON Schemas from a seed, over all keywords that constrained output supports and valijson
// knows too (draft 7).
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace lapidary {

// A document with definitions, some of them recursive.
std::string random_schema(uint64_t seed);

}  // namespace lapidary
