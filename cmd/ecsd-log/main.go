// Command ecsd-log is the small program that stands beside, or inside, a container. Its
// name decides which:
//
//	ecsd-log             started by containerd for a container (binary://…/ecsd-log?file=…):
//	                     writes the container's output to rotated files
//	ecsd-init, init      started as the first process of a container
//	                     (linuxParameters.initProcessEnabled) or of a task's shared
//	                     process namespace (pidMode: task): forwards signals, reaps
//
// It is static, and small on purpose: there is one per container.
package main

import (
	"os"

	"ecsd/pkg/logs/writer"
)

func main() {
	switch base(os.Args[0]) {
	case "init", "ecsd-init":
		os.Exit(initMain(os.Args[1:]))
	}
	os.Exit(writer.Main(os.Args[1:]))
}

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
