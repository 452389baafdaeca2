package strictyaml

import (
	"fmt"
	"strings"
)

// UnknownField says that key is not among the fields, and which one is nearest.
func UnknownField(fields []string, key string) string {
	if near := Nearest(fields, key); near != "" {
		return fmt.Sprintf("no such field; %s?", near)
	}
	if len(fields) == 0 || len(fields) > 16 {
		return "no such field"
	}
	return "no such field; there are " + strings.Join(fields, ", ")
}

// Nearest gives the word that key was probably meant to be, or "". Case and
// separators count for nothing; otherwise a third of the letters may differ.
func Nearest(words []string, key string) string {
	if len(key) > 64 {
		return ""
	}
	best, bestCost := "", 1<<30
	for _, w := range words {
		cost := distance(fold(w), fold(key))
		if cost < bestCost {
			best, bestCost = w, cost
		}
	}
	if bestCost > max(1, len(key)/3) {
		return ""
	}
	return best
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "")

func fold(s string) string { return strings.ToLower(separators.Replace(s)) }

// distance is the number of letters to insert, delete or replace, where a swap
// of two neighbours counts once.
func distance(a, b string) int {
	prev2, prev := []int(nil), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, row
	}
	return prev[len(b)]
}
