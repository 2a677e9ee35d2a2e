// The parts of the built-in calibration text, made by CMake from calibration_text/, so that the
// binary needs no file at run time. Documents are divided by a line of "=====", chats by lines.
#pragma once

#include <string_view>

namespace lapidary::calibration_parts {

std::string_view prose();
std::string_view code();
std::string_view data();
std::string_view languages();
std::string_view chats();

}  // namespace lapidary::calibration_parts
