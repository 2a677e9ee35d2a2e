// Runs something that must throw Error, and returns that Error for inspection.
#pragma once

#include <gtest/gtest.h>

#include "formats/error.h"

namespace lapidary {

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::kInternal, ""};
}

}  // namespace lapidary
