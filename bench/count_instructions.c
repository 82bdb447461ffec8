// A plugin of qemu-user that prints how many instructions a program executed. For comparing kernels of instruction sets that
// are not at hand; counts say nothing about time. One thread only, as threads would share the counter.
//   gcc -O2 -shared -fPIC -o build/count.so bench/count_instructions.c
//   HEARTH_ISA=neon-dotprod qemu-aarch64 -L build/arm64-root -cpu max -plugin build/count.so
//     build/arm64/hearth bench MODEL --threads 1 --repeat 1 --context 160 --prompt 0 --gen 16
// (and --gen 32: the difference is 16 tokens). Static builds of qemu-user have no plugins. qemu's header is in no package of
// Debian 12; these are its declarations that are needed here (docs/devel/tcg-plugins of qemu, version 1).
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb* block));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* block, int operation, void* counter,
                                              uint64_t value);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*ended)(uint64_t id, void* data), void* data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed;

static void translated(uint64_t id, struct qemu_plugin_tb* block) {
  (void)id;
  const int add = 0;  // QEMU_PLUGIN_INLINE_ADD_U64
  qemu_plugin_register_vcpu_tb_exec_inline(block, add, &executed, qemu_plugin_tb_n_insns(block));
}

static void ended(uint64_t id, void* data) {
  (void)id, (void)data;
  fprintf(stderr, "instructions: %" PRIu64 "\n", executed);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void* info, int argc, char** argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
