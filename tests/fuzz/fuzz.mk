# SPDX-License-Identifier: Apache-2.0
#
# The fuzz targets; a part of dataplane/Makefile.
#
#   make fuzz                     every target for FUZZ_SECONDS, from its committed corpus
#   make fuzz T=rx FUZZ_SECONDS=600
#   make fuzz-merge T=rx          what was found since, minimised, into the committed corpus
#
# What a run finds stays in build/fuzz/found; an input that fails is kept as
# build/fuzz/failed/<target>-..., and the log names it: run the target with it.
# Only the library is instrumented for coverage: the targets' own branches
# would be what the fuzzer learns to please.

FUZZDIR = ../tests/fuzz
FUZZ_SECONDS ?= 60
# Where others have the processors a minute may be next to nothing; then it goes on up to so many runs.
FUZZ_RUNS ?= 50000
FUZZ_OPTIONS = -max_len=1024 -timeout=60 -rss_limit_mb=1024 -print_final_stats=1
FUZZ_COUNT = sed -n 's/^stat::number_of_executed_units: *//p'
FUZZ_SAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_HELP = fuzz_guest fuzz_mmap fuzz_tx
FUZZ_ALL := $(filter-out $(FUZZ_HELP),$(basename $(notdir $(wildcard $(FUZZDIR)/fuzz_*.c))))
FUZZ_TARGETS = $(foreach t,$(FUZZ_ALL),$(if $(T),$(if $(findstring $(T),$(t)),$(t)),$(t)))
FUZZ_LDFLAGS = -Wl,--wrap=mmap,--wrap=munmap
FUZZ_MAKE = +@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang OPT=-O1 SAN="-fsanitize=fuzzer-no-link $(FUZZ_SAN)"

.PHONY: fuzz fuzz-build fuzz-run fuzz-merge fuzz-merged
.PRECIOUS: $(BUILD)/%

fuzz: ; $(FUZZ_MAKE) fuzz-run
fuzz-build: ; $(FUZZ_MAKE) $(FUZZ_ALL:%=$(BUILD)/fuzz/%)
fuzz-merge: ; $(FUZZ_MAKE) fuzz-merged

$(BUILD)/fuzz_%.o: $(FUZZDIR)/fuzz_%.c
	@mkdir -p $(@D)
	@echo "  CC $@"
	$(Q)$(CC) $(ALL_CPPFLAGS) -I$(FUZZDIR) -std=gnu11 -g -O1 $(WARN) -fno-strict-aliasing $(FUZZ_SAN) -MMD -MP -c -o $@ $<

$(FUZZ_ALL:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(FUZZ_HELP:%=$(BUILD)/%.o) $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -pthread $(FUZZ_LDFLAGS) -o $@ $^ $(LIBS)

fuzz-run: $(FUZZ_TARGETS:%=fuzz-run/%)
	@test $(words $(FUZZ_TARGETS)) -gt 0

fuzz-run/%: $(BUILD)/% FORCE
	@mkdir -p $(BUILD)/found/$* $(BUILD)/failed
	@fuzz() { $< "$$1" $(FUZZ_OPTIONS) -artifact_prefix=$(BUILD)/failed/$*- $(BUILD)/found/$* $(FUZZDIR)/corpus/$* 2>&1; }; \
	fuzz -max_total_time=$(FUZZ_SECONDS) > $<.log; status=$$?; done=$$($(FUZZ_COUNT) $<.log); \
	if [ $$status -eq 0 ] && [ "$${done:-0}" -lt $(FUZZ_RUNS) ]; then \
		fuzz -runs=$$(($(FUZZ_RUNS) - $${done:-0})) >> $<.log; status=$$?; \
	fi; \
	sed -n 's/^#\([0-9]*\).DONE *\(.*\) rss.*/$*: \1 runs, \2/p' $<.log; \
	if [ $$status -ne 0 ]; then \
		grep -v -e REDUCE -e NEW -e pulse $<.log | tail -40; \
		echo "FAILED $*: replay with $(BUILD)/$* $$(sed -n 's/.*Test unit written to //p' $<.log)"; \
	fi; exit $$status

fuzz-merged: $(FUZZ_TARGETS:%=fuzz-merged/%)

# By edges alone: what only counts loops differently is not worth a file.
fuzz-merged/%: $(BUILD)/% FORCE
	@rm -rf $(BUILD)/merged/$*; mkdir -p $(BUILD)/merged/$* $(BUILD)/found/$* $(FUZZDIR)/corpus/$*
	@$< -merge=1 -use_counters=0 -use_cmp=0 $(BUILD)/merged/$* $(FUZZDIR)/corpus/$* $(BUILD)/found/$* > $<.merge.log 2>&1
	@rm -f $(FUZZDIR)/corpus/$*/*; cp $(BUILD)/merged/$*/* $(FUZZDIR)/corpus/$*/
	@echo "$*: $$(ls $(FUZZDIR)/corpus/$* | wc -l) files"

-include $(FUZZ_ALL:%=$(BUILD)/%.d) $(FUZZ_HELP:%=$(BUILD)/%.d)
