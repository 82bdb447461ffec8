// The first promise for every element type: a small model whose matrices are of that type gives the same logits on every
// instruction set, with 1, 2 and 3 threads, and for chunks of 1 to 9 and 23 rows.
#include <gtest/gtest.h>

#include <random>

#include "backend/cpu/kernels.h"
#include "model/decoder.h"
#include "model/gguf_writer.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

constexpr uint64_t kModel = 256, kKv = 64, kVocab = 100;  // 100: the last panel is not full
constexpr int kRows = 23;

// With the matrices as they were drawn; `ffn` is the length of a row.
class SmallModel {
 public:
  explicit SmallModel(uint64_t ffn) : path_(folder_.path() / "model.gguf") {
    for (const char* key : {"context_length", "embedding_length"}) set(key, kModel);
    set("block_count", 1);
    set("feed_forward_length", ffn);
    set("attention.head_count", 4);
    set("attention.head_count_kv", 1);
    writer_.set("general.architecture", "llama");
    writer_.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    add("token_embd.weight", kModel, kVocab);
    add("blk.0.attn_q.weight", kModel, kModel);
    add("blk.0.attn_k.weight", kModel, kKv);
    add("blk.0.attn_v.weight", kModel, kKv);
    add("blk.0.attn_output.weight", kModel, kModel);
    add("blk.0.ffn_gate.weight", kModel, ffn);
    add("blk.0.ffn_up.weight", kModel, ffn);
    add("blk.0.ffn_down.weight", ffn, kModel);
    for (const char* name : {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"})
      add(name, kModel, 0);
    EXPECT_TRUE(writer_.write(path_));
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void set(const std::string& key, uint64_t value) { writer_.set("llama." + key, static_cast<uint32_t>(value)); }
  // n_rows 0: a vector.
  void add(const char* name, uint64_t length, uint64_t n_rows) {
    const uint64_t rows = std::max<uint64_t>(n_rows, 1);
    std::normal_distribution<float> normal(0.0f, n_rows ? 0.1f : 1.0f);
    std::vector<float>& values = data_.emplace_back(length * rows);
    for (float& value : values) value = normal(random_);
    const uint64_t shape[] = {length, n_rows};
    writer_.add_tensor(name, Type::kF32, std::span(shape).first(n_rows ? 2 : 1), std::as_bytes(std::span(values)));
  }

  TestFolder folder_;
  std::filesystem::path path_;
  GgufWriter writer_;
  std::vector<std::vector<float>> data_;
  std::mt19937 random_{7};
};

struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<SequenceStore> store;

  Loaded(const Checkpoint& checkpoint, std::string_view isa, int n_threads)
      : backend(create_backend("cpu", {.n_threads = n_threads, .isa = std::string(isa)}).value()),
        decoder(Decoder::load(checkpoint, *backend, {.context = 64, .rows_max = 0, .progress = {}}).value()),
        store(SequenceStore::create(*backend, decoder->config(),
                                    {.kv_type = KvType::kF16, .positions_max = 64, .sequences_max = 1})
                  .value()) {}

  // Logits of all rows, run in chunks.
  std::vector<float> logits(int chunk) {
    const SequenceId id = store->open().value();
    std::vector<float> out(kRows * kVocab);
    for (int begin = 0; begin < kRows; begin += chunk) {
      const int count = std::min(chunk, kRows - begin);
      std::vector<int32_t> tokens, wanted;
      for (int i = 0; i < count; ++i) {
        tokens.push_back((begin + i) * 37 % static_cast<int>(kVocab));
        wanted.push_back(i);
      }
      EXPECT_TRUE(store->reserve(id, count));
      const SequenceRows rows = store->rows(id, 0, count);
      decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, *store);
      store->advance(id, count);
      decoder->logits(wanted, std::span(out).subspan(begin * kVocab, count * kVocab));
    }
    store->release(id);
    return out;
  }
};

TEST(EveryType, InstructionSetsThreadsAndChunksChangeNoBit) {
  for (const TypeInfo& type : all_types()) {
    const SmallModel model(is_own(type.type) ? 288 : 256);
    std::vector<std::vector<std::byte>> memory;
    const Checkpoint drawn = open_checkpoint(model.path()).value(), checkpoint = encoded(drawn, type, memory);
    const std::vector<float> expected = Loaded(checkpoint, "scalar", 1).logits(kRows);
    for (const cpu::Kernels* kernels : cpu::all_kernels()) {
      if (!kernels->supported()) continue;
      const bool scalar = kernels->isa == "scalar";
      for (const int threads : {1, 2, 3}) {
        Loaded loaded(checkpoint, kernels->isa, threads);
        for (const int chunk : {1, 2, 3, 4, 5, 6, 7, 8, 9, kRows}) {
          if (scalar ? threads != 3 || chunk != 6 : threads != 2 && chunk != 1 && chunk != 6) continue;
          ASSERT_EQ(loaded.logits(chunk), expected)
              << kernels->isa << " " << type.name << ", " << threads << " threads, chunks of " << chunk;
        }
      }
    }
  }
}

}  // namespace
}  // namespace hearth
