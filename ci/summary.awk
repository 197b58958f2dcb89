# Passes nextest's output on, and repeats its summary as `cargo test` would write it.
# Summary [   1.234s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped
{ print; fflush() }
/Summary \[/ {
    passed = failed = timed_out = skipped = 0
    took = $0; sub(/.*Summary \[ */, "", took); sub(/s?\].*/, "", took)
    counts = $0; sub(/.*tests? run: */, "", counts)
    n = split(counts, part, ", ")
    for (i = 1; i <= n; i++) {
        split(part[i], word, " ")
        if (word[2] == "passed") passed = word[1]
        else if (word[2] == "failed" || word[2] == "exec") failed += word[1]
        else if (word[2] == "timed") timed_out = word[1]
        else if (word[2] == "skipped") skipped = word[1]
    }
    failed += timed_out
    printf "test result: %s. %d passed; %d failed; 0 ignored; 0 measured; %d filtered out; finished in %ss\n", \
        failed ? "FAILED" : "ok", passed, failed, skipped, took
}
