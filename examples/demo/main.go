// Demo is the program in the image that the examples run. It is built statically and is
// the only file of its image.
//
//	demo web [-listen ADDR] [-message TEXT]   serve TEXT; /healthz for health checks; drains on SIGTERM
//	demo check URL                            exit 0 when URL answers 200, else 1
//	demo migrate                              pretend to migrate a database, exit 0
//	demo work [-for DURATION]                 print a line a second, exit 0 at the end
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{"web"}
	}
	switch args[0] {
	case "web":
		return web(ctx, args[1:])
	case "check":
		return check(ctx, args[1:])
	case "migrate":
		fmt.Println("schema is up to date")
		return nil
	case "work":
		return work(ctx, args[1:])
	}
	return fmt.Errorf("no command %q: want web, check, migrate or work", args[0])
}

func web(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("web", flag.ExitOnError)
	listen := flags.String("listen", ":8080", "address to listen on")
	message := flags.String("message", "hello", "what to answer")
	_ = flags.Parse(args)
	hostname, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s\n", *message, hostname)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		fmt.Println("draining")
		drained <- server.Shutdown(context.Background())
	}()
	fmt.Println("listening on", *listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}

func check(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("check wants one URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", args[0], response.Status)
	}
	return nil
}

func work(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("work", flag.ExitOnError)
	length := flags.Duration("for", 65*time.Second, "how long to work")
	_ = flags.Parse(args)
	done := time.After(*length)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			fmt.Println("interrupted")
			return nil
		case <-done:
			fmt.Println("batch complete")
			return nil
		case <-tick.C:
			fmt.Println("item", n)
		}
	}
}
