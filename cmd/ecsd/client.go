package main

import (
	"os"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
)

// socketFlag gives a command --socket and returns how to make a client from it.
func socketFlag(cmd *cobra.Command) func() *localapi.Client {
	def := os.Getenv("ECSD_SOCKET")
	if def == "" {
		def = localapi.DefaultSocket
	}
	var path string
	// The default is not that of the flag, so that help and docs are the same everywhere.
	cmd.Flags().StringVar(&path, "socket", "", "socket of the agent (ECSD_SOCKET, default "+localapi.DefaultSocket+")")
	return func() *localapi.Client {
		if path == "" {
			return localapi.NewClient(def)
		}
		return localapi.NewClient(path)
	}
}
