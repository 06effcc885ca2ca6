package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"ecsd/pkg/spec"
)

func newRenderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render FILE|DIR|-...",
		Short: "Print the OCI runtime specs that manifests become",
		Long: `Print, as a list, the OCI runtime spec of every container of the task definitions in
the files. It needs no agent, no containerd and no image, so it stands in for what
only they know: the task's id is all zeros, paths are those of a default
installation, the host has cgroup v2, and without --image-config the image has
neither an entry point nor users.`,
		GroupID: groupManifests,
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	out := outputFlag(cmd, formJSON, formYAML)
	var o renderOptions
	cmd.Flags().StringVar(&o.imageConfig, "image-config", "", "OCI image configuration (JSON) that stands for every container's image")
	cmd.Flags().StringVar(&o.imageRoot, "image-root", "", "unpacked image, of which etc/passwd and etc/group are read")
	cmd.Flags().StringVar(&o.container, "container", "", "only containers of this name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		img, err := o.image()
		if err != nil {
			return err
		}
		list, err := sources(args)
		if err != nil {
			return err
		}
		files := validate(list, cmd.InOrStdin())
		var rendered []renderedContainer
		for _, f := range files {
			if len(f.Errors) > 0 {
				return &exitError{exitInvalid, f.Errors.Error()}
			}
			for _, d := range f.docs {
				if d.TaskDefinition == nil {
					continue
				}
				r, err := render(d.TaskDefinition.Defaulted(), o.container, img)
				if err != nil {
					return &exitError{exitInvalid, f.Path + ": " + err.Error() + o.hint()}
				}
				rendered = append(rendered, r...)
			}
		}
		if len(rendered) == 0 {
			return &exitError{exitNotFound, "there is no such container in the files"}
		}
		return printValue(cmd.OutOrStdout(), out.value, rendered)
	}
	return cmd
}

// renderOptions are the flags of `ecsd render`.
type renderOptions struct {
	imageConfig, imageRoot, container string
}

// hint says how to make up for an image that is not there.
func (o renderOptions) hint() string {
	if o.imageConfig == "" || o.imageRoot == "" {
		return " (if that is for want of the image: give --image-config and --image-root)"
	}
	return ""
}

func (o renderOptions) image() (spec.ImageConfig, error) {
	var img spec.ImageConfig
	if o.imageConfig == "" {
		// So that a definition without a command renders too: its image would have one.
		img.Cmd = []string{"command-of-the-image"}
	} else {
		data, err := os.ReadFile(o.imageConfig)
		if err != nil {
			return img, notThere(o.imageConfig, err)
		}
		var have v1.Image
		if err := json.Unmarshal(data, &have); err != nil {
			return img, &exitError{exitInvalid, o.imageConfig + ": not an OCI image configuration: " + err.Error()}
		}
		c := have.Config
		img = spec.ImageConfig{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
			StopSignal: c.StopSignal, Labels: c.Labels, Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		}
	}
	if o.imageRoot == "" {
		return img, nil
	}
	root, err := os.OpenRoot(o.imageRoot) // an image's links must not lead out of it
	if err != nil {
		return img, notThere(o.imageRoot, err)
	}
	defer root.Close()
	if img.Passwd, err = root.ReadFile("etc/passwd"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return img, err
	}
	if img.Group, err = root.ReadFile("etc/group"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return img, err
	}
	return img, nil
}

// renderedContainer is one container of a definition as it would be given to the runtime.
type renderedContainer struct {
	Family    string      `json:"family"`
	Container string      `json:"container"`
	Spec      *specs.Spec `json:"spec"`
}

func render(td spec.TaskDefinition, only string, img spec.ImageConfig) ([]renderedContainer, error) {
	t := spec.Task{ID: strings.Repeat("0", 32), Family: td.Family, Revision: 1, Slot: 1, Definition: td, DesiredStatus: spec.StatusRunning}
	var out []renderedContainer
	for _, c := range td.ContainerDefinitions {
		if only != "" && only != c.Name {
			continue
		}
		s, err := spec.OCI(t, c.Name, img, genericHost(t, c))
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
		out = append(out, renderedContainer{td.Family, c.Name, s})
	}
	return out, nil
}

// genericHost is a machine on which everything that the container asks for is there, at
// the paths of a default installation.
func genericHost(t spec.Task, c spec.ContainerDefinition) spec.Host {
	dir := filepath.Join("/var/lib/ecsd/tasks", t.ID)
	h := spec.Host{
		Arch: "amd64", CgroupV2: true, CgroupParent: "/ecs", SwapAccounting: true, PidsLimit: 4096,
		Etc: spec.EtcFiles{
			Hosts:      filepath.Join(dir, c.Name, "hosts"),
			ResolvConf: filepath.Join(dir, c.Name, "resolv.conf"),
			Hostname:   filepath.Join(dir, c.Name, "hostname"),
		},
		Volumes:    map[string]string{},
		Devices:    map[string]spec.HostDevice{},
		InitBinary: "/usr/libexec/ecsd/ecsd-log",
	}
	if t.Definition.NetworkMode != "host" {
		h.NetworkNamespace = filepath.Join("/run/ecsd/netns", t.ID+"-"+c.Name)
	}
	if t.Definition.PIDMode == "task" {
		h.PIDNamespace = filepath.Join("/run/ecsd/pidns", t.ID)
	}
	if t.Definition.IPCMode == "task" {
		h.IPCNamespace, h.ShmPath = filepath.Join("/run/ecsd/ipcns", t.ID), filepath.Join("/run/ecsd/shm", t.ID)
	}
	for _, v := range t.Definition.Volumes {
		h.Volumes[v.Name] = filepath.Join(dir, "volumes", v.Name)
		if v.Host != nil && v.Host.SourcePath != "" {
			h.Volumes[v.Name] = v.Host.SourcePath
		}
	}
	if c.LinuxParameters != nil {
		for _, d := range c.LinuxParameters.Devices {
			h.Devices[d.HostPath] = spec.HostDevice{Type: "c", Mode: 0o660}
		}
	}
	return h
}
