package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notify asks for the signals that the test sends; others, such as our own runtime's
// SIGURG, would only disturb.
func notify(c chan<- os.Signal) {
	signal.Notify(c, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGINT, syscall.SIGTERM)
}
