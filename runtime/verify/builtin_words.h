// The words that built-in tasks are made of. Plain, distinct in their first letters, one sense
// each.
#pragma once

#include <array>
#include <string_view>

#include "runtime/verify/random.h"

namespace lapidary {

inline constexpr std::array<std::string_view, 46> kNouns = {
    "anchor", "apple",  "basket", "bridge", "candle", "copper", "desert", "dragon",
    "eagle",  "engine", "falcon", "forest", "garden", "guitar", "hammer", "harbor",
    "insect", "island", "jacket", "jungle", "kettle", "kitten", "ladder", "lemon",
    "marble", "mirror", "needle", "nickel", "orange", "oyster", "pencil", "pepper",
    "quartz", "rabbit", "ribbon", "saddle", "silver", "temple", "tunnel", "umbrella",
    "velvet", "violin", "walnut", "window", "yellow", "zipper"};
inline constexpr std::array<std::string_view, 16> kFirstNames = {
    "Ada",  "Bela", "Carla", "Dario", "Farid", "Greta", "Hana", "Ivan",
    "Liam", "Mina", "Nora",  "Omar",  "Pavel", "Quinn", "Rosa", "Sven"};
inline constexpr std::array<std::string_view, 12> kLastNames = {
    "Abbott",   "Castro", "Fischer", "Gupta", "Jensen", "Kowal",
    "Lindgren", "Moreno", "Okafor",  "Rossi", "Tanaka", "Xu"};
inline constexpr std::array<std::string_view, 14> kCities = {
    "Accra",   "Amsterdam", "Brasilia", "Dublin",   "Helsinki", "Lima",   "Montevideo",
    "Nairobi", "Oslo",      "Quito",    "Santiago", "Tunis",    "Vienna", "Vilnius"};

template <size_t N>
std::string_view pick(SplitMix64& random, const std::array<std::string_view, N>& words) {
  return words[random.below(N)];
}

}  // namespace lapidary
