// A stream of items in three stages that overlap: while item i is worked on, item i + 1 is read and
// item i - 1 is written, each by a thread of its own.
//
// Items go through each stage one after another and in order, so a stage may keep state of its own
// (a hash, a file's end). Three items exist, whatever the length of the stream. An Error of any
// stage ends the stream: it is thrown to the caller after the other stages have come to rest.
#pragma once

#include <array>
#include <cstdint>
#include <future>

namespace lapidary {

// read(i, item) and write(item) run on other threads; work(item) on the caller's.
template <class Item, class Read, class Work, class Write>
void run_in_stages(int64_t n_items, Read&& read, Work&& work, Write&& write) {
  std::array<Item, 3> items;
  std::future<void> reading, writing;  // destroyed first: their destructors wait for the threads
  const auto start_reading = [&](int64_t i) {
    if (i < n_items)
      reading =
          std::async(std::launch::async, [&, i] { read(i, items[static_cast<size_t>(i % 3)]); });
  };
  start_reading(0);
  for (int64_t i = 0; i < n_items; ++i) {
    Item& item = items[static_cast<size_t>(i % 3)];
    reading.get();
    start_reading(i + 1);
    work(item);
    if (writing.valid()) writing.get();
    writing = std::async(std::launch::async, [&write, done = &item] { write(*done); });
  }
  if (writing.valid()) writing.get();
}

}  // namespace lapidary
