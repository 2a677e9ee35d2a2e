// Reading what launchers say.
#include "finetune/process_group.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr int kMostProcesses = 4096;

int64_t number(const ReadVariable& get, const char* name, int64_t low, int64_t high) {
  const char* text = get(name);
  if (!text) fail(ErrorCode::kUsage, "{} is not set; start with torchrun or srun", name);
  const std::string_view digits(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < low || value > high)
    fail(ErrorCode::kUsage, "{} is \"{}\": expected a number from {} to {}", name, text, low, high);
  return value;
}

// "node[01-03,07],other" -> "node01"
std::string first_host(std::string_view list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string_view::npos || comma < bracket)
    return std::string(list.substr(0, comma));
  const size_t end = list.find_first_of(",-]", bracket);
  if (end == std::string_view::npos)
    fail(ErrorCode::kUsage, "SLURM_STEP_NODELIST \"{}\" is not a list of hosts", list);
  return std::string(list.substr(0, bracket)) +
         std::string(list.substr(bracket + 1, end - bracket - 1));
}

Rendezvous from_torchrun(const ReadVariable& get) {
  Rendezvous r;
  r.size = static_cast<int>(number(get, "WORLD_SIZE", 1, kMostProcesses));
  r.rank = static_cast<int>(number(get, "RANK", 0, r.size - 1));
  if (r.size == 1) return r;
  const char* host = get("MASTER_ADDR");
  if (!host) fail(ErrorCode::kUsage, "MASTER_ADDR is not set; start with torchrun");
  r.host = host;
  r.port = static_cast<uint16_t>(number(get, "MASTER_PORT", 1, 65535));
  const char* agent = get("TORCHELASTIC_USE_AGENT_STORE");
  r.store_is_there = agent && std::string_view(agent) == "True";
  const char* restart = get("TORCHELASTIC_RESTART_COUNT");
  r.round = restart ? restart : "0";
  return r;
}

Rendezvous from_slurm(const ReadVariable& get) {
  Rendezvous r;
  r.size = static_cast<int>(number(get, "SLURM_STEP_NUM_TASKS", 1, kMostProcesses));
  r.rank = static_cast<int>(number(get, "SLURM_PROCID", 0, r.size - 1));
  if (r.size == 1) return r;
  const char* host = get("MASTER_ADDR");
  const char* nodes = get("SLURM_STEP_NODELIST");
  if (!host && !nodes)
    fail(ErrorCode::kUsage, "neither MASTER_ADDR nor SLURM_STEP_NODELIST is set; start with srun");
  r.host = host ? host : first_host(nodes);
  // Two jobs on one host must not meet: the job's number chooses the port.
  r.port = static_cast<uint16_t>(get("MASTER_PORT")
                                     ? number(get, "MASTER_PORT", 1, 65535)
                                     : 20000 + number(get, "SLURM_JOB_ID", 0, INT64_MAX) % 20000);
  const char* restart = get("SLURM_RESTART_COUNT");
  r.round = restart ? restart : "0";
  return r;
}

}  // namespace

std::optional<Rendezvous> rendezvous_from(const ReadVariable& get) {
  Rendezvous r;
  if (get("RANK") || get("WORLD_SIZE"))
    r = from_torchrun(get);
  else if (get("SLURM_STEP_NUM_TASKS"))
    r = from_slurm(get);
  if (r.size == 1) return {};
  return r;
}

std::unique_ptr<ProcessGroup> join_process_group() {
  const auto rendezvous = rendezvous_from([](const char* name) { return std::getenv(name); });
  return rendezvous ? join(*rendezvous) : nullptr;
}

}  // namespace lapidary
