// Package metricstest reads what a collector gives, for the tests of packages that have one.
//
//	collector ──▶ pedantic registry ──▶ Gather ──▶ Set ──▶ Set.Value("name", "label=value", …)
//
// Invariants:
//   - What is collected without being described, or against its description, fails the test.
package metricstest
