// Mkimage writes a one-layer OCI archive from files on this machine:
//
//	mkimage -o demo.tar -file /demo=bin/demo -entrypoint /demo
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"ecsd/test/ociimage"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run() error {
	out := flag.String("o", "image.tar", "archive to write")
	entrypoint := flag.String("entrypoint", "", "entry point of the image, words separated by blanks")
	command := flag.String("cmd", "", "command of the image, words separated by blanks")
	ref := flag.String("ref", "latest", "reference name in the archive")
	var files []ociimage.File
	flag.Func("file", "PATH-IN-IMAGE=FILE, repeatable", func(s string) error {
		dst, src, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("want PATH-IN-IMAGE=FILE")
		}
		data, err := os.ReadFile(src)
		if err != nil {
			return err
		}
		info, err := os.Stat(src)
		if err != nil {
			return err
		}
		files = append(files, ociimage.File{Path: dst, Mode: info.Mode(), Data: data})
		return nil
	})
	flag.Parse()
	image, err := ociimage.Build(files, v1.Config{
		Entrypoint: strings.Fields(*entrypoint),
		Cmd:        strings.Fields(*command),
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	})
	if err != nil {
		return err
	}
	return ociimage.Save(image, *out, *ref)
}
