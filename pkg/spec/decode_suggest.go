package spec

import (
	"fmt"
	"strings"
)

// unknownField is the reason for a key that is not there, and the key that was probably
// meant, "" when none is near.
func unknownField(name string, known []string) (reason, meant string) {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return fmt.Sprintf("unknown field: did you mean %q? (upper and lower case matter)", k), k
		}
	}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("unknown field: did you mean %q?", near), near
	}
	if len(known) <= 6 {
		return "unknown field: known here are " + strings.Join(known, ", "), ""
	}
	return "unknown field", ""
}

// nearest is the word at the least edit distance, if that is near enough to be a slip of
// the hand: one edit for each three letters. "" when none is.
func nearest(name string, known []string) string {
	if len(name) < 3 || len(name) > 64 {
		return ""
	}
	best, bestDistance := "", len(name)/3+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours
// between a and b; limit or more means "too far".
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
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
