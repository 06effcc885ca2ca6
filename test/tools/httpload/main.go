// Httpload asks for a URL over and over, each time on a new connection and never twice
// for the same request, until it is told to stop (SIGTERM, SIGINT or the end of its
// standard input). It then prints how many requests there were, how many failed, the
// first failures, and which answers came how often.
//
//	httpload [-parallel N] [-timeout D] [-pause D] URL
//
// It exits with 1 when a request failed, or when there was none.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

type result struct {
	requests, failed int
	failures         []string
	answers          map[string]int
}

func main() {
	parallel := flag.Int("parallel", 4, "requests at once")
	timeout := flag.Duration("timeout", 5*time.Second, "time a request may take")
	pause := flag.Duration("pause", 0, "time between two requests of one asker")
	watchInput := flag.Bool("until-eof", false, "stop at the end of standard input too")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: httpload [-parallel N] [-timeout D] [-pause D] URL")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if *watchInput {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	}
	client := &http.Client{Timeout: *timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	total := result{answers: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range *parallel {
		wg.Go(func() {
			for ctx.Err() == nil && !sleep(ctx, *pause) {
				answer, err := get(client, flag.Arg(0))
				mu.Lock()
				total.add(answer, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total.print(os.Stdout)
	if total.failed > 0 || total.requests == 0 {
		os.Exit(1)
	}
}

// sleep waits, and reports whether ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(d):
		return false
	}
}

func get(client *http.Client, url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s", response.Status)
	}
	answer, _, _ := strings.Cut(string(body), " from ")
	return strings.TrimSpace(answer), nil
}

func (r *result) add(answer string, err error) {
	r.requests++
	if err != nil {
		r.failed++
		if len(r.failures) < 5 {
			r.failures = append(r.failures, err.Error())
		}
		return
	}
	r.answers[answer]++
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%d requests, %d failed\n", r.requests, r.failed)
	for _, f := range r.failures {
		fmt.Fprintln(w, "  failed:", f)
	}
	var answers []string
	for a, n := range r.answers {
		answers = append(answers, fmt.Sprintf("  %6d × %q", n, a))
	}
	slices.Sort(answers)
	for _, a := range answers {
		fmt.Fprintln(w, a)
	}
}
