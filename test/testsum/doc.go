// Command testsum runs `go test -json` and turns its stream into one that a person can follow: a line for each package
// as it ends, failing tests with everything they printed, skipped ones with their reason, and the count as the last line.
//
//	testsum -- go test -json ./...  ──events──▶ Summary ──▶ ok   svcplane/dns   1.2s  34 tests
//	                                                        FAIL svcplane/node  9.9s  ...
//	                                                        812 passed, 0 failed, 3 skipped
//
// Invariants:
//   - A test with subtests is not counted, its subtests are: unless it failed by itself.
//   - Whatever failed makes the exit code non-zero: a test, a package that does not build, the command itself.
//   - Nothing that a failing test printed is dropped.
package main
