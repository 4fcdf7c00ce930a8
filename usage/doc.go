// Package usage prints the help of commands, in lines that a narrow terminal has room for, and their manual pages: what a
// command is for, how it is written, examples, its commands, its flags in groups, its exit codes.
//
//	Group(flags, "DNS", register) ─▶ annotation on each flag ──┐           ┌─▶ --help, at most Columns wide
//	cobra.Command: Long, Example, commands ────────────────────┼─▶ Install ┘
//	SetExitCodes ──────────────────────────────────────────────┴─▶ Manual.Write ─▶ tool.1, tool-sub.1, ...
//
// Invariants:
//   - No line of help is longer than Columns, but a word that is longer by itself.
//   - Every flag that is not hidden is printed once: in its group, or under "Flags" if it has none.
//   - A manual page depends on the command, the version and the date that it is given, and on nothing else.
package usage
