package main

import (
	"fmt"
	"io"
)

// report is the outcome of one run.
type report struct {
	Versions string `json:"versions"`
	// Start: one task, from instruction to first instruction of the process.
	Start []series `json:"start"`
	// Burst: Burst tasks at once, until all have run their first instruction.
	Burst     []series `json:"burst"`
	BurstSize int      `json:"burstSize"`
	// Idle: the agent with that many tasks and nothing to do.
	Idle []idle `json:"idle"`
}

type idle struct {
	Tasks      int     `json:"tasks"`
	RSSMB      float64 `json:"rssMB"`
	PSSMB      float64 `json:"pssMB"`
	CPUPercent float64 `json:"cpuPercentOfACore"`
	Threads    int     `json:"threads"`
	Files      int     `json:"fileDescriptors"`
}

func (r report) print(w io.Writer) {
	fmt.Fprintln(w, r.Versions)
	bare := find(r.Start, "bare client, host").median()
	fmt.Fprintf(w, "\none task, instruction to first instruction (ratio to the bare client)\n")
	fmt.Fprintf(w, "%-28s %6s %9s %9s %4s\n", "", "ratio", "median ms", "p90 ms", "n")
	for _, s := range r.Start {
		fmt.Fprintf(w, "%-28s %6.2f %9.1f %9.1f %4d\n", s.Method, ratio(s.median(), bare), s.median(), s.quantile(0.9), len(s.Times))
	}
	best := bestBare(r.Burst)
	fmt.Fprintf(w, "\n%d tasks at once (rate relative to the bare client at its best parallelism, %s)\n", r.BurstSize, best.Method)
	fmt.Fprintf(w, "%-28s %6s %9s %9s\n", "", "rate", "all ms", "tasks/s")
	for _, s := range r.Burst {
		fmt.Fprintf(w, "%-28s %6.2f %9.1f %9.1f\n", s.Method, ratio(best.median(), s.median()), s.median(), ratio(float64(r.BurstSize)*1000, s.median()))
	}
	fmt.Fprintf(w, "\nthe agent when all is quiet\n%-10s %8s %8s %8s %8s %6s\n", "tasks", "RSS MB", "PSS MB", "% core", "threads", "files")
	for _, i := range r.Idle {
		fmt.Fprintf(w, "%-10d %8.1f %8.1f %8.2f %8d %6d\n", i.Tasks, i.RSSMB, i.PSSMB, i.CPUPercent, i.Threads, i.Files)
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func find(all []series, method string) series {
	for _, s := range all {
		if s.Method == method {
			return s
		}
	}
	return series{}
}

// bestBare is the fastest of the bare client's parallelisms.
func bestBare(all []series) series {
	var best series
	for _, s := range all {
		if len(s.Method) < 4 || s.Method[:4] != "bare" {
			continue
		}
		if best.Method == "" || s.median() < best.median() {
			best = s
		}
	}
	return best
}
