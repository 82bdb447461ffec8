// What people say to a house, and that what cannot be understood is not guessed.
#include "gateway/utterance.h"

#include <gtest/gtest.h>

namespace hearth::gateway {
namespace {

std::vector<Signal> house() {
  const auto writable = [](std::string name, std::string label, SignalType type) {
    Signal signal;
    signal.name = std::move(name), signal.label = std::move(label), signal.type = type;
    signal.write = WriteLimits();
    return signal;
  };
  std::vector<Signal> signals{writable("kitchen/light", "Kitchen light", SignalType::kBool),
                              writable("bedroom/light", "Bedroom light", SignalType::kBool),
                              writable("living/heating", "Living room heating", SignalType::kNumber),
                              writable("bedroom/heating", "Bedroom heating", SignalType::kNumber),
                              writable("front_door/locked", "Front door", SignalType::kBool),
                              writable("garage/open", "Garage door", SignalType::kBool),
                              writable("fan/mode", "Fan", SignalType::kText)};
  signals.back().write->allowed = {"low", "high"};
  Signal sensor;
  sensor.name = "kitchen/temperature";
  signals.push_back(sensor);
  return signals;
}

TEST(Utterance, WhatNamesOneThingIsClear) {
  struct Case {
    std::string_view said;
    SignalId signal;
    Value value;
  };
  const std::vector<Case> cases{{"Turn on the kitchen light", 0, true},
                                {"please switch off the bedroom lights", 1, false},
                                {"Set the living room heating to 21.5 degrees", 2, 21.5},
                                {"lock the front door", 4, true},
                                {"Unlock the front door!", 4, false},
                                {"open the garage door", 5, true},
                                {"close the garage", 5, false},
                                {"fan high", 6, std::string("high")}};
  for (const Case& each : cases) {
    const Utterance utterance = understand(each.said, house());
    ASSERT_FALSE(utterance.meant.empty()) << each.said;
    EXPECT_TRUE(utterance.clear) << each.said;
    EXPECT_EQ(utterance.meant[0].signal, each.signal) << each.said;
    EXPECT_EQ(utterance.meant[0].value, each.value) << each.said;
  }
}

// Heard as a wish, each of these would do the opposite of what was said, or something nobody wanted.
TEST(Utterance, QuestionsAndProhibitionsAreNoWishes) {
  for (const std::string_view said :
       {"is the kitchen light on", "Do not open the garage door", "don't lock the front door", "who opened the garage",
        "leave the kitchen light on", "never unlock the front door", "I already locked the front door"}) {
    const Utterance utterance = understand(said, house());
    EXPECT_FALSE(utterance.wish) << said;
    EXPECT_TRUE(utterance.meant.empty()) << said;
  }
  for (const std::string_view said : {"could you turn on the kitchen light", "do turn on the kitchen light"})
    EXPECT_TRUE(understand(said, house()).wish) << said;
}

TEST(Utterance, WhatNamesSeveralOrNothingIsNotClear) {
  EXPECT_EQ(understand("turn on the light", house()).meant.size(), 2u);
  EXPECT_FALSE(understand("turn on the light", house()).clear);
  EXPECT_FALSE(understand("turn on the light in the attic", house()).clear);
  EXPECT_TRUE(understand("what is the weather in Rome", house()).meant.empty());
  EXPECT_TRUE(understand("set the kitchen temperature to 30", house()).meant.empty()) << "a sensor";
  EXPECT_TRUE(understand("", house()).meant.empty());
  EXPECT_TRUE(understand(std::string(100'000, '.'), house()).meant.empty());
}

}  // namespace
}  // namespace hearth::gateway
