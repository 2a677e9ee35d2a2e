// What launchers say about who meets where.
#include "finetune/process_group.h"

#include <gtest/gtest.h>

#include <map>

#include "formats/error.h"

namespace lapidary {
namespace {

std::optional<Rendezvous> from(const std::map<std::string, std::string>& environment) {
  return rendezvous_from([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Rendezvous, IsNotNeededAlone) {
  EXPECT_FALSE(from({}));
  EXPECT_FALSE(from({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  // A batch script of Slurm, before srun: it has a number of tasks, but is none of them.
  EXPECT_FALSE(from({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}));
}

TEST(Rendezvous, ReadsTorchrun) {
  const auto r = from({{"RANK", "3"},
                       {"WORLD_SIZE", "4"},
                       {"MASTER_ADDR", "head"},
                       {"MASTER_PORT", "29500"},
                       {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                       {"TORCHELASTIC_RESTART_COUNT", "2"}});
  ASSERT_TRUE(r);
  EXPECT_EQ(r->rank, 3);
  EXPECT_EQ(r->size, 4);
  EXPECT_EQ(r->host, "head");
  EXPECT_EQ(r->port, 29500);
  EXPECT_TRUE(r->store_is_there);
  EXPECT_EQ(r->round, "2");
}

TEST(Rendezvous, ReadsSlurm) {
  std::map<std::string, std::string> environment{{"SLURM_STEP_NUM_TASKS", "2"},
                                                 {"SLURM_PROCID", "1"},
                                                 {"SLURM_JOB_ID", "100003"},
                                                 {"SLURM_STEP_NODELIST", "n[07-09,12],m1"}};
  const auto r = from(environment);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->rank, 1);
  EXPECT_EQ(r->host, "n07");
  EXPECT_EQ(r->port, 20003);
  EXPECT_FALSE(r->store_is_there);
  environment["SLURM_STEP_NODELIST"] = "m1,n[07-09]";
  EXPECT_EQ(from(environment)->host, "m1");
  environment["MASTER_ADDR"] = "10.0.0.1";
  EXPECT_EQ(from(environment)->host, "10.0.0.1");
}

TEST(Rendezvous, RefusesWhatContradictsItself) {
  using Environment = std::map<std::string, std::string>;
  for (const Environment& environment : {
           Environment{{"RANK", "0"}},
           Environment{{"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "1"}},
           Environment{
               {"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "1"}},
           Environment{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}},
           Environment{
               {"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "x"}},
           Environment{{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "0"}},
       })
    EXPECT_THROW(from(environment), Error);
}

}  // namespace
}  // namespace lapidary
