package diagnose

import (
	"fmt"
	"slices"
	"strings"
)

// maxTypos is how many letters a word may be off: one of a short word, three of a long one.
func maxTypos(word string) int { return min(3, 1+len(word)/6) }

// DidYouMean is the one of some words that a mistyped word most likely stands for: the nearest by the optimal string
// alignment distance (a Damerau-Levenshtein distance), whatever the case; else the only one that it begins. "" if none is
// near; of several that are equally near the first of the alphabet.
func DidYouMean(word string, among []string) string {
	typed := strings.ToLower(word)
	nearest, off := "", maxTypos(typed)+1
	var begun []string
	for _, candidate := range slices.Sorted(slices.Values(among)) {
		lower := strings.ToLower(candidate)
		if d := len(lower) - len(typed); d < off && -d < off { // else it can't be nearer
			if d := distance(typed, lower); d < off && d < min(len(typed), len(lower)) {
				nearest, off = candidate, d
			}
		}
		if len(typed) > 2 && strings.HasPrefix(lower, typed) {
			begun = append(begun, candidate)
		}
	}
	if begun = slices.Compact(begun); nearest == "" && len(begun) == 1 {
		return begun[0]
	}
	return nearest
}

// Hint is the end of an error about a word that does not exist: ": did you mean toad-svc?", or "" if nothing is near. Each
// of prefixes goes before the word that is meant: "--" for a flag.
func Hint(word string, among []string, prefixes ...string) string {
	meant := DidYouMean(word, among)
	if meant == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s%s?", strings.Join(prefixes, ""), meant)
}

// distance is the number of letters to insert, remove, exchange or swap with their neighbour to make b of a (the optimal
// string alignment distance).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
