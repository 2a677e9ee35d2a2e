// The loop over tests and repetitions, each repetition between two looks at the machine.
#include "runtime/bench/bench.h"

#include <algorithm>
#include <chrono>

#include "formats/error.h"
#include "kernels/machine_probe.h"
#include "runtime/bench/disturbance.h"
#include "runtime/bench/step_work.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

constexpr int kTriesPerRepetition = 3;
// A pass of the probe is short and easily disturbed; its best of a few is the machine's.
constexpr int kProbePasses = 3;

struct Speed {
  double read_gbps = 0, int8_tops = 0;
  void take_best(const Speed& other) {
    read_gbps = std::max(read_gbps, other.read_gbps);
    int8_tops = std::max(int8_tops, other.int8_tops);
  }
};

Speed measure(MachineProbe& probe) {
  Speed best;
  for (int i = 0; i < kProbePasses; ++i)
    best.take_best({probe.read_gbps(), probe.int8_tops(kernels().isa)});
  return best;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? 0.0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// One test on one sequence, repeated from the same depth.
class TestRun {
 public:
  TestRun(Engine& engine, const BenchTest& test, const BenchOptions& options)
      : engine_(engine),
        test_(test),
        adapter_(options.adapter),
        sequence_(engine.new_sequence(test.depth + test.n_tokens, options.kv)),
        vocab_size_(static_cast<uint64_t>(engine.model().config().vocab_size)) {}

  // Brings the cache to the test's depth; not timed.
  void rewind() {
    if (sequence_->length() >= test_.depth && sequence_->earliest_rollback() <= test_.depth)
      return sequence_->truncate(test_.depth);
    sequence_->truncate(0);
    engine_.append_random(*sequence_, test_.depth);
  }

  void run(const Events& events) {
    if (test_.kind == BenchTest::Kind::kPrompt) return read_prompt(events);
    for (int64_t i = 0; i < test_.n_tokens; ++i) {
      events.poll();
      const int32_t token = random_token();
      const BatchItem item{sequence_.get(), {&token, 1}, 0, adapter_};
      // Finding the best belongs to generation; feeding it would let random weights go in circles.
      engine_.step_best({&item, 1}, 1);
    }
  }

  StepWork work(const KvOptions& kv) const {
    StepWork work;
    const bool is_prompt = test_.kind == BenchTest::Kind::kPrompt;
    const int64_t chunk = is_prompt ? engine_.options().max_batch_tokens : 1;
    for (int64_t done = 0; done < test_.n_tokens;) {
      const int64_t n = std::min(chunk, test_.n_tokens - done);
      const bool wanted = !is_prompt || done + n == test_.n_tokens;
      work += step_work(engine_.model(), kv, test_.depth + done, n, wanted ? 1 : 0);
      done += n;
    }
    return work;
  }

 private:
  int32_t random_token() { return static_cast<int32_t>(random_.below(vocab_size_)); }

  void read_prompt(const Events& events) {
    std::vector<int32_t> tokens;
    for (int64_t done = 0; done < test_.n_tokens;) {
      events.poll();
      const int64_t n =
          std::min<int64_t>(engine_.options().max_batch_tokens, test_.n_tokens - done);
      tokens.resize(static_cast<size_t>(n));
      for (int32_t& token : tokens) token = random_token();
      done += n;
      const BatchItem item{sequence_.get(), tokens, done == test_.n_tokens ? n - 1 : n, adapter_};
      engine_.step_best({&item, 1}, 1);
    }
  }

  Engine& engine_;
  const BenchTest test_;
  const Adapter* adapter_;
  std::unique_ptr<Sequence> sequence_;
  uint64_t vocab_size_;
  SplitMix64 random_{1};
};

// What one repetition gave.
struct Sample {
  double tokens_per_second;
  Speed machine;
};

struct Samples {
  std::vector<Sample> clean, disturbed;
};

BenchResult summarize(const BenchTest& test, const StepWork& work, const Samples& samples,
                      int n_wanted) {
  const std::vector<Sample>& counted = samples.clean.empty() ? samples.disturbed : samples.clean;
  const auto median_of = [&](auto&& value) {
    std::vector<double> values;
    for (const Sample& s : counted) values.push_back(value(s));
    return median(values);
  };
  BenchResult r;
  r.test = test;
  const double n_tokens = static_cast<double>(test.n_tokens);
  r.bytes_per_token = work.bytes / n_tokens;
  r.multiply_adds_per_token = work.multiply_adds / n_tokens;
  r.tokens_per_second = median_of([](const Sample& s) { return s.tokens_per_second; });
  r.read_gbps = median_of([](const Sample& s) { return s.machine.read_gbps; });
  r.int8_tops = median_of([](const Sample& s) { return s.machine.int8_tops; });
  r.share_of_bandwidth = median_of([&](const Sample& s) {
    return s.tokens_per_second * r.bytes_per_token / (1e9 * s.machine.read_gbps);
  });
  if (r.int8_tops > 0)
    r.share_of_int8 = median_of([&](const Sample& s) {
      return s.tokens_per_second * 2 * r.multiply_adds_per_token / (1e12 * s.machine.int8_tops);
    });
  r.slowest = r.fastest = counted.front().tokens_per_second;
  for (const Sample& s : counted) {
    r.slowest = std::min(r.slowest, s.tokens_per_second);
    r.fastest = std::max(r.fastest, s.tokens_per_second);
  }
  r.n_clean = static_cast<int>(samples.clean.size());
  r.n_disturbed = static_cast<int>(samples.disturbed.size());
  r.disturbed = r.n_clean < n_wanted;
  return r;
}

}  // namespace

BenchReport run_bench(std::shared_ptr<const Model> model, const BenchOptions& options,
                      const Events& events) {
  if (options.repetitions < 1)
    fail(ErrorCode::kUsage, "{} repetitions: expected at least 1", options.repetitions);
  const int n_cpus = n_online_cpus();
  MachineProbe probe(options.engine.n_threads);
  Engine engine(std::move(model), options.engine);
  BenchReport report;
  report.cpu = cpu_name();
  report.isa = kernels().name;
  report.n_threads = probe.n_threads();

  for (const BenchTest& test : options.tests) {
    const std::string name = to_string(test);
    Progress progress{
        .what = "repetitions", .total = static_cast<uint64_t>(options.repetitions), .detail = name};
    TestRun run(engine, test, options);
    run.rewind();
    run.run(events);  // the first touches pages and caches for all
    Samples samples;
    Speed before = measure(probe);
    for (int i = 0; i < kTriesPerRepetition * options.repetitions &&
                    samples.clean.size() < static_cast<size_t>(options.repetitions);
         ++i) {
      progress.done = samples.clean.size();
      events.progress(progress);
      run.rewind();
      const MachineLoad load = machine_load();
      const auto start = std::chrono::steady_clock::now();
      run.run(events);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const bool disturbed = is_disturbed(load, machine_load(), n_cpus);
      const Speed after = measure(probe);
      Sample sample{static_cast<double>(test.n_tokens) / seconds, before};
      sample.machine.take_best(after);
      report.read_gbps = std::max(report.read_gbps, sample.machine.read_gbps);
      report.int8_tops = std::max(report.int8_tops, sample.machine.int8_tops);
      (disturbed ? samples.disturbed : samples.clean).push_back(sample);
      before = after;
    }
    report.results.push_back(summarize(test, run.work(options.kv), samples, options.repetitions));
  }
  return report;
}

}  // namespace lapidary
