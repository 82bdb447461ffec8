// The chat template that the tiny model carries, read from its file, against what jinja2 makes of it.
#include <boost/json/parse.hpp>

#include "support/loaded_model.h"
#include "support/template_golden.h"

namespace hearth {
namespace {

TEST(RealTemplate, RendersAsJinja2Does) {
  const auto conversations = boost::json::parse(test::read("conversations.json")).as_object();
  const auto golden = boost::json::parse(test::read("real_models.json")).as_object();
  const Checkpoint checkpoint = open_checkpoint(test::real_model().value_or("no tiny model")).value();
  const TextSide text = load_text(checkpoint).value();
  ASSERT_TRUE(text.chat_template);
  for (const auto& [name, expected] : golden.at("smollm2-135m-q4_1").as_object()) {
    const auto conversation = test::conversation_of(conversations.at(name).as_object());
    test::check(text.chat_template->render(conversation.messages, conversation.options), expected.as_object(),
                std::string(name));
  }
}

}  // namespace
}  // namespace hearth
