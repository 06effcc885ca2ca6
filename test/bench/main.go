// Bench measures what ecsd adds to bare containerd: everything side by side in one run on
// one private containerd, interleaved, medians, ratios first.
//
//	bench [-rounds N] [-burst N] [-json FILE] [-skip-idle]
//
// What is measured is the time from the instruction to the first instruction of the
// process in the container, which stamps the boot clock into a file: for ecsd the
// instruction is the rename of a manifest into its directory, for the others the call. The
// bare client does the least that a client can: lease, snapshot, container, task, start,
// with the very OCI spec that ecsd made for the same definition (seccomp, capabilities,
// cgroup depth) and the same log writer.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 20, "rounds of the one-container measure")
	flag.IntVar(&o.burst, "burst", 20, "tasks started at once")
	flag.IntVar(&o.bursts, "bursts", 5, "rounds of the burst measure")
	flag.IntVar(&o.idle, "idle", 100, "tasks running while the agent is quiet")
	flag.DurationVar(&o.quiet, "quiet", 20*time.Second, "how long CPU is measured while the agent is quiet")
	flag.StringVar(&o.bin, "bin", "bin", "directory of ecsd and ecsd-log")
	flag.StringVar(&o.archive, "image", "", "test image, an OCI archive")
	out := flag.String("json", "", "write the figures to this file too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := measure(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	r.print(os.Stdout)
	if *out != "" {
		b, _ := json.MarshalIndent(r, "", "  ")
		if err := os.WriteFile(*out, append(b, '\n'), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
}

type options struct {
	rounds, burst, bursts, idle int
	quiet                       time.Duration
	bin, archive                string
}

// series are the times one method took, in milliseconds.
type series struct {
	Method string    `json:"method"`
	Times  []float64 `json:"ms"`
}

func (s *series) add(d time.Duration) { s.Times = append(s.Times, float64(d.Microseconds())/1000) }

// quantile is the q-quantile of the times; 0 of none.
func (s series) quantile(q float64) float64 {
	if len(s.Times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.Times))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s series) median() float64 { return s.quantile(0.5) }
