// Package usage prints the help of commands: what a command is for, how it is written, examples, its commands, and its
// flags in groups, in lines that a narrow terminal has room for.
//
//	Group(flags, "DNS", register) ─▶ annotation on each flag ──┐
//	cobra.Command: Long, Example, commands ────────────────────┴──▶ Install ─▶ --help, at most Columns wide
//
// Invariants:
//   - No line is longer than Columns, but a word that is longer by itself.
//   - Every flag that is not hidden is printed once: in its group, or under "Flags" if it has none.
package usage
