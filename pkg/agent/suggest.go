package agent

import (
	"slices"
)

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// suggestion is " (did you mean X?)" for the known name nearest to name, or nothing.
func suggestion(name string, known map[string]bool) string {
	best, distance := "", 4
	for candidate := range known {
		if d := editDistance(name, candidate); d < distance || d == distance && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
