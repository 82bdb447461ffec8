#include "gateway/config.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace hearth::gateway {
namespace {

ConfigTable parsed(std::string_view text) {
  auto table = ConfigTable::parse(text, "gateway.toml");
  EXPECT_TRUE(table.has_value()) << (table ? "" : table.error().message);
  return std::move(*table);
}

TEST(Config, EntriesAreReadAndMissingOnesHaveTheirFallback) {
  const ConfigTable table = parsed(
      "name = \"pump\"\nhertz = 2\nfine = 0.5\non = true\nwait = \"1.5s\"\nlist = [\"a\", \"b\"]\n[inner]\nx = "
      "1\n[[many]]\n[[many]]\ny = 2\n");
  EXPECT_EQ(*table.needed_text("name"), "pump");
  EXPECT_EQ(*table.text("other", "none"), "none");
  EXPECT_EQ(*table.number("hertz", 0, 0, 10), 2);
  EXPECT_EQ(*table.number("fine", 0, 0, 10), 0.5);
  EXPECT_TRUE(*table.flag("on", false));
  EXPECT_EQ(*table.duration("wait", {}), std::chrono::milliseconds(1500));
  EXPECT_EQ(*table.texts("list"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(*table.table("inner")->integer("x", 0, 0, 9), 1);
  EXPECT_EQ(*table.table("absent")->integer("x", 7, 0, 9), 7);
  EXPECT_EQ(*table.tables("many")->at(1).integer("y", 0, 0, 9), 2);
  EXPECT_EQ(std::get<double>(**table.value("hertz")), 2);
  EXPECT_FALSE(table.value("absent")->has_value());
  EXPECT_TRUE(table.finish().has_value());
}

// What a person sees who made a mistake: where, what, and what to write instead.
TEST(Config, AMistakeIsNamedWithItsLineAndTheRemedy) {
  const ConfigTable table = parsed("name = \"a\"\n\nport = 99999\nspeed = \"fast\"\nwait = 5\nnot = nan\n[hots]\n");
  EXPECT_EQ(table.integer("port", 0, 1, 65535).error().message,
            "gateway.toml:3: port: is 99999, has to be from 1 to 65535");
  EXPECT_EQ(table.number("speed", 0, 0, 1).error().message, "gateway.toml:4: speed: is a text, has to be a number");
  EXPECT_NE(table.duration("wait", {}).error().message.find("gateway.toml:5"), std::string::npos);
  EXPECT_FALSE(table.number("not", 0, -1e300, 1e300).has_value());
  EXPECT_FALSE(table.value("not").has_value());
  EXPECT_NE(table.needed_text("unit").error().message.find("add unit = "), std::string::npos);
  (void)table.text("name", "");
  (void)table.has("host");
  EXPECT_EQ(table.finish().error().message, "gateway.toml:7: hots: nothing reads it: did you mean host?");
}

TEST(Config, WhatIsNoTomlIsRefusedWithLineAndColumn) {
  const auto broken = ConfigTable::parse("a = 1\nb = = 2\n", "x.toml");
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().code, Code::kMalformed);
  EXPECT_EQ(broken.error().message.substr(0, 9), "x.toml:2:");
  EXPECT_EQ(ConfigTable::parse(std::string(limits::kGatewayConfigBytes + 1, ' '), "x").error().code, Code::kLimit);
}

}  // namespace
}  // namespace hearth::gateway
