// Who is there, from heartbeats alone.
#include "cluster/members.h"

#include <gtest/gtest.h>

namespace hearth::cluster {
namespace {

using Time = Members::Time;

Member machine(const std::string& name, uint64_t started, uint64_t beat) {
  Member member;
  member.name = name, member.process = "node-1", member.started = started, member.beat = beat;
  return member;
}

std::vector<std::string> names(const Members& members, Time now) {
  std::vector<std::string> out;
  for (const Member& member : members.snapshot(now)) out.push_back(member.name);
  return out;
}

TEST(Members, WhoIsSilentIsGoneAndComesBack) {
  Members members;
  EXPECT_TRUE(members.heard(machine("box", 1, 1), Time(0)));
  EXPECT_TRUE(members.heard(machine("cellar", 1, 1), Time(0)));
  EXPECT_TRUE(members.heard(machine("box", 1, 2), Time(3000)));
  EXPECT_EQ(names(members, Time(3000)), (std::vector<std::string>{"box", "cellar"}));
  EXPECT_EQ(names(members, Time(3000) + Members::kGone), (std::vector<std::string>{"box"}));
  EXPECT_EQ(members.everybody(Time(7000)).size(), 2u) << "people still see it for a minute";
  EXPECT_TRUE(members.heard(machine("cellar", 1, 9), Time(9000)));
  EXPECT_EQ(names(members, Time(9000)), (std::vector<std::string>{"cellar"}));
}

TEST(Members, OldNewsDoNotReplaceNewer) {
  Members members;
  EXPECT_TRUE(members.heard(machine("box", 10, 5), Time(0)));
  EXPECT_FALSE(members.heard(machine("box", 10, 5), Time(1))) << "twice";
  EXPECT_FALSE(members.heard(machine("box", 10, 4), Time(1))) << "late";
  EXPECT_FALSE(members.heard(machine("box", 9, 999), Time(1))) << "of a process that was before";
  EXPECT_TRUE(members.heard(machine("box", 11, 1), Time(1))) << "it was started again";
  members.left(machine("box", 10, UINT64_MAX));
  EXPECT_EQ(names(members, Time(1)).size(), 1u) << "the end of the process before is none of the new one's";
  members.left(machine("box", 11, UINT64_MAX));
  EXPECT_TRUE(names(members, Time(1)).empty());
}

TEST(Members, WhatABrokerKeptIsNobodyUntilItIsHeard) {
  Members members;
  members.told(machine("box", 10, 5), Time(0));
  EXPECT_TRUE(members.snapshot(Time(0)).empty());
  EXPECT_EQ(members.everybody(Time(0)).size(), 1u);
  EXPECT_TRUE(members.heard(machine("box", 10, 5), Time(1))) << "the very heartbeat that was kept";
  members.told(machine("box", 10, 4), Time(2));
  EXPECT_EQ(members.snapshot(Time(2)).front().beat, 5u);
  // Heartbeats alone make the same list.
  Members anew;
  anew.heard(machine("box", 10, 6), Time(3));
  members.heard(machine("box", 10, 6), Time(3));
  EXPECT_EQ(anew.snapshot(Time(3)), members.snapshot(Time(3)));
}

TEST(Members, TheListHasAnEnd) {
  Members members;
  for (int i = 0; i < 5000; ++i) members.heard(machine("m" + std::to_string(i), 1, 1), Time(0));
  EXPECT_LE(members.everybody(Time(0)).size(), 4096u);
  EXPECT_TRUE(members.heard(machine("late", 1, 1), Time(100'000))) << "who is gone makes room";
}

TEST(Members, WhatAMachineSaysIsChecked) {
  Member all = machine("box", 1'700'000'000'000, 7);
  all.stages_at = "10.0.0.1:7950", all.door = "10.0.0.1:8080", all.site_door = "10.0.0.1:7951",
  all.memory_bytes = 1ull << 40, all.cores = 4;
  all.bytes_per_second = 5.5e9, all.battery = true, all.running = 3, all.queued = 2, all.revoked = 4;
  all.models = {{.name = "qwen", .digest = std::string(64, 'a')}};
  all.stages = {{.owner = "gateway", .model = "abc", .first = 3, .end = 9, .epoch = (7ull << 32) + 1, .steps = 11}};
  EXPECT_EQ(parse_member(to_json(all)).value(), all);
  for (const char* text :
       {"", "[]", "{}", R"({"name":"a b","process":"n"})", R"({"name":"a.>","process":"n"})",
        R"({"name":"a","process":"n","cores":-1})", R"({"name":"a","process":"n","cores":"4"})",
        R"({"name":"a","process":"n","memory_bytes":1e99})", R"({"name":"a","process":"n","bytes_per_second":-1})",
        R"({"name":"a","process":"n","models":{}})", R"({"name":"a","process":"n","models":[1]})",
        R"({"name":"a","process":"n","stages":[{"first":1.5}]})"})
    EXPECT_FALSE(parse_member(text)) << text;
}

}  // namespace
}  // namespace hearth::cluster
